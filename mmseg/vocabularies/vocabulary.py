"""A vocabulary is a text file, one class a line, in the order of the data set's ids:

    label: prompt | synonym   #rrggbb

`label:` may be left out (then the first prompt is the label), and so may the colour.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmseg.errors import UserError
from mmseg.utils import nearest

from .palette import distinct_palette

DATA = Path(__file__).parent / 'data'
LINE = re.compile(
    r'^(?:(?P<label>[^:#]+):)?(?P<prompts>[^#]*?)\s*(?:#(?P<rgb>[0-9a-fA-F]{6}))?\s*$'
)


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

    @cached_property
    def metainfo(self):
        """What mmengine's data sets call it: {'classes': labels, 'palette': RGB triples}."""
        return dict(classes=self.labels, palette=self.palette)


def parse_vocabulary(lines, name):
    """Lines of text -> Vocabulary; colours left out are filled from `distinct_palette`."""
    labels, prompts, colours = [], [], []
    for line in filter(str.strip, lines):
        match = LINE.match(line.strip())
        if match is None:
            raise UserError(
                f'the vocabulary {name} has a line that reads neither "class" nor '
                f'"label: prompt | synonym  #rrggbb": {line.strip()!r}'
            )
        words = tuple(word.strip() for word in match['prompts'].split('|'))
        labels.append((match['label'] or words[0]).strip())
        prompts.append(words)
        colours.append(match['rgb'])
    spare = distinct_palette(len(labels))
    palette = tuple(tuple(bytes.fromhex(rgb)) if rgb else spare[i] for i, rgb in enumerate(colours))
    return Vocabulary(name, tuple(labels), tuple(prompts), palette)


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
    if not isinstance(source, (str, Path)):
        return parse_vocabulary([str(line) for line in source], 'given as a list')
    if str(source) in list_vocabularies():
        path = DATA / f'{source}.txt'
    else:
        path = Path(source)
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'{str(source)!r} is neither a vocabulary{nearest(source, list_vocabularies())} nor a '
            f'readable text file with one class a line; known: {", ".join(list_vocabularies())}'
        ) from error
    return parse_vocabulary(text.splitlines(), path.stem)
