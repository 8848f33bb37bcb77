"""A vocabulary is a text file, one class a line, in the order of the data set's ids:

    label: prompt | synonym   #rrggbb

`label:` may be left out (then the first prompt is the label), and so may the colour.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmseg.errors import UserError
from mmseg.utils import nearest

from .palette import distinct_palette

DATA = Path(__file__).parent / 'data'
COLOUR = re.compile(r'#([0-9a-fA-F]{6})$')


@dataclass(frozen=True)
class Vocabulary:
    """The only place that knows class names; its length is the only number of classes.

    Attributes:
        name: e.g. 'pascal_context_59'.
        labels: (C) names in data set order, as a metric prints them: 'aeroplane'.
        prompts: (C) tuples of what CLIP reads, synonyms included: ('airplane',).
        palette: (C) RGB triples in 0..255.

    Raises:
        UserError: no class, an empty or double name, or lengths that differ.
    """

    name: str
    labels: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self):
        lengths = {len(self.labels), len(self.prompts), len(self.palette)}
        if lengths == {0}:
            raise UserError(f'the vocabulary {self.name} names no class; give one class a line')
        if len(lengths) > 1:
            raise UserError(
                f'the vocabulary {self.name} has {len(self.labels)} labels, '
                f'{len(self.prompts)} prompts and {len(self.palette)} colours'
            )
        double = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if double:
            raise UserError(f'the vocabulary {self.name} names twice: {", ".join(double)}')
        for label, prompts in zip(self.labels, self.prompts):
            if not label or not prompts or not all(prompts):
                raise UserError(f'the vocabulary {self.name} has an empty name at {label!r}')

    def __len__(self):
        return len(self.labels)

    def ids(self, labels):
        """Labels, or 'all' -> their ids, a sorted tuple.

        Raises:
            UserError: a label that is not of this vocabulary.
        """
        if labels == 'all':
            return tuple(range(len(self)))
        if isinstance(labels, str):
            labels = [labels]
        for label in labels:
            if label not in self.labels:
                near = nearest(label, self.labels)
                raise UserError(f'the vocabulary {self.name} has no class {label!r}{near}')
        return tuple(sorted(self.labels.index(label) for label in labels))

    def ids_of(self, label):
        """A label -> its id, or in a vocabulary of `by_prompt` those of its prompts."""
        own = [i for i, name in enumerate(self.labels) if name.startswith(f'{label}: ')]
        return own or list(self.ids(label))

    def difference(self, labels: Sequence[str]) -> str:
        """Labels in an order -> how they differ from these: 'class 3 is ...'; '' for not at all"""
        return label_difference(labels, self.labels, self.name)

    def by_prompt(self):
        """-> a Vocabulary with a class for each prompt, and the class here of each of those"""
        rows = [(i, prompt) for i, prompts in enumerate(self.prompts) for prompt in prompts]
        queries = Vocabulary(
            f'{self.name} by prompt',
            labels=tuple(f'{self.labels[i]}: {prompt}' for i, prompt in rows),
            prompts=tuple((prompt,) for _, prompt in rows),
            palette=tuple(self.palette[i] for i, _ in rows),
        )
        return queries, tuple(i for i, _ in rows)

    @cached_property
    def metainfo(self):
        """What mmengine's data sets call it: {'classes': labels, 'palette': RGB triples}."""
        return dict(classes=self.labels, palette=self.palette)


def label_difference(theirs: Sequence[str], own: Sequence[str], name: str) -> str:
    """Compare labels and their order with those of `name` -> 'class 3 is ...', '' where equal."""
    if len(theirs) != len(own):
        return f'{len(theirs)} classes, {name} has {len(own)}'
    for i, (their, label) in enumerate(zip(theirs, own)):
        if their != label:
            return f'class {i} is {their!r}, in {name} {label!r}'
    return ''


def parse_vocabulary(lines, name):
    """Lines of text -> Vocabulary; colours left out are filled from `distinct_palette`."""
    rows = [_parse_line(line.strip()) for line in lines if line.strip()]
    spare = distinct_palette(len(rows))
    return Vocabulary(
        name,
        labels=tuple(label for label, _, _ in rows),
        prompts=tuple(prompts for _, prompts, _ in rows),
        palette=tuple(colour or spare[i] for i, (_, _, colour) in enumerate(rows)),
    )


def _parse_line(line):
    """'label: prompt | synonym  #rrggbb' -> label, prompts, RGB or None"""
    colour = COLOUR.search(line)
    if colour:
        line = line[: colour.start()]
    label, _, words = line.rpartition(':')
    prompts = tuple(word.strip() for word in words.split('|'))
    return label.strip() or prompts[0], prompts, tuple(bytes.fromhex(colour[1])) if colour else None


def list_vocabularies():
    """Names of the vocabularies that come with the package."""
    return sorted(path.stem for path in DATA.glob('*.txt'))


def load_vocabulary(source):
    """A name ('voc_20'), a text file, or a sequence of classes ('dog | puppy') -> Vocabulary.

    Raises:
        UserError: an unknown name, an unreadable file, or what `Vocabulary` refuses.
    """
    if isinstance(source, Vocabulary):
        return source
    if not isinstance(source, (str, Path, Sequence)):
        raise UserError(f'a vocabulary is a name, a text file or a list of classes, not {source!r}')
    if not isinstance(source, (str, Path)):
        lines = [str(line) for line in source]
        for i, line in enumerate(lines):
            if not line.strip():  # skipped as in a file, it would shift the ids behind it
                raise UserError(f'the vocabulary given as a list has an empty name at place {i}')
        return parse_vocabulary(lines, 'given as a list')
    if str(source) in list_vocabularies():
        path = DATA / f'{source}.txt'
    else:
        path = Path(source)
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'{str(source)!r} is neither a vocabulary{nearest(source, list_vocabularies())} nor a '
            f'readable text file with one class a line; known: {", ".join(list_vocabularies())}'
        ) from error
    return parse_vocabulary(text.splitlines(), path.stem)
