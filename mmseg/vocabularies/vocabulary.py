"""Vocabularies: text files with a class per line, in the order of the data set's ids.

    label: prompt | synonym   #rrggbb

`label:` and the colour are optional. Without a label, the first prompt is the label.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmseg.errors import UserError
from mmseg.utils import nearest

DATA = Path(__file__).parent / 'data'
COLOUR = re.compile(r'#([0-9a-fA-F]{6})$')
Colour = tuple[int, int, int]  # RGB in 0..255

# Each is the farthest in CIEDE2000 from white, black, grey and the colours before it, as in
# Glasbey et al., "Colour displays for categorical images", Color Research & Application 2007.
DISTINCT = """
0000ff 00dd00 990000 ff9900 ff11ff 005500 ff9999 00cccc 99aaff 991166 775500 999900
006666 ff3300 0066aa 339966 ffbbff 554444 8866aa ff0077 bbcc99 00bbff aa7755 eeccaa
eecc00 aabbbb 995555 444477 667733 bbaabb 00eeaa bb7799 555544 0088aa aa00dd 5577ff
bbdd22 bb88ee aa9977 dd0033 ff8855 776677 bb8800 449900 990033 009999 994400 889977
"""


@dataclass(frozen=True)
class Vocabulary:
    """The names of all classes. Its length is the number of classes.

    Attributes:
        name: e.g. 'pascal_context_59'.
        labels: (C) names in the order of the ids, as a metric prints them: 'aeroplane'.
        prompts: (C) tuples of names that CLIP reads, with synonyms: ('airplane',).
        palette: (C) colours.

    Raises:
        UserError: no class, an empty or duplicate name, or lengths that differ.
    """

    name: str
    labels: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    palette: tuple[Colour, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.prompts), len(self.palette)}
        if lengths == {0}:
            raise UserError(f'the vocabulary {self.name} names no class; give one class a line')
        if len(lengths) > 1:
            raise UserError(
                f'the vocabulary {self.name} has {len(self.labels)} labels, '
                f'{len(self.prompts)} prompts and {len(self.palette)} colours'
            )
        duplicates = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if duplicates:
            raise UserError(f'the vocabulary {self.name} names twice: {", ".join(duplicates)}')
        for label, prompts in zip(self.labels, self.prompts):
            if not label or not prompts or not all(prompts):
                raise UserError(f'the vocabulary {self.name} has an empty name at {label!r}')

    def __len__(self) -> int:
        return len(self.labels)

    def ids(self, labels: str | Iterable[str]) -> tuple[int, ...]:
        """Look up the ids of labels, in ascending order. 'all' stands for all of them.

        Raises:
            UserError: a label that is not in this vocabulary.
        """
        if labels == 'all':
            return tuple(range(len(self)))
        names = [labels] if isinstance(labels, str) else list(labels)
        for label in names:
            if label not in self.labels:
                hint = nearest(label, self.labels)
                raise UserError(f'the vocabulary {self.name} has no class {label!r}{hint}')
        return tuple(sorted(self.labels.index(label) for label in names))

    def ids_of(self, label: str) -> list[int]:
        """Look up a label; in a vocabulary of `by_prompt`, the ids of all its prompts."""
        ids = [i for i, name in enumerate(self.labels) if name.startswith(f'{label}: ')]
        return ids or list(self.ids(label))

    def by_prompt(self) -> tuple['Vocabulary', tuple[int, ...]]:
        """Make each prompt a class; also return the class that each belongs to."""
        rows = [(i, prompt) for i, prompts in enumerate(self.prompts) for prompt in prompts]
        queries = Vocabulary(
            f'{self.name} by prompt',
            labels=tuple(f'{self.labels[i]}: {prompt}' for i, prompt in rows),
            prompts=tuple((prompt,) for _, prompt in rows),
            palette=tuple(self.palette[i] for i, _ in rows),
        )
        return queries, tuple(i for i, _ in rows)

    def difference(self, labels: Sequence[str]) -> str:
        """Describe how other labels differ from these; see `label_difference`."""
        return label_difference(labels, self.labels, self.name)


def label_difference(labels: Sequence[str], expected: Sequence[str], name: str) -> str:
    """Describe the first difference between labels and those of `name`; '' if they are equal.

    For example: "class 3 is 'cat', in voc_20 'dog'".
    """
    if len(labels) != len(expected):
        return f'{len(labels)} classes, {name} has {len(expected)}'
    for i, (label, other) in enumerate(zip(labels, expected)):
        if label != other:
            return f'class {i} is {label!r}, in {name} {other!r}'
    return ''


def parse_vocabulary(lines: Iterable[str], name: str) -> Vocabulary:
    """Parse lines of text; missing colours are taken from `distinct_palette`."""
    rows = [_parse_line(line.strip()) for line in lines if line.strip()]
    given = [colour for _, _, colour in rows if colour]
    spare = iter(distinct_palette(len(rows) - len(given), given))
    return Vocabulary(
        name,
        labels=tuple(label for label, _, _ in rows),
        prompts=tuple(prompts for _, prompts, _ in rows),
        palette=tuple(colour or next(spare) for _, _, colour in rows),
    )


def _parse_line(line: str) -> tuple[str, tuple[str, ...], Colour | None]:
    """'label: prompt | synonym  #rrggbb' -> label, prompts, colour"""
    colour = None
    if match := COLOUR.search(line):
        line = line[: match.start()]
        colour = _rgb(match[1])
    label, _, words = line.rpartition(':')
    prompts = tuple(word.strip() for word in words.split('|'))
    return label.strip() or prompts[0], prompts, colour


def distinct_palette(n: int, taken: Sequence[Colour] = ()) -> tuple[Colour, ...]:
    """List n different colours: `DISTINCT`, then PASCAL VOC's colour map.

    Args:
        taken: colours to stay away from; the nearest of `DISTINCT` come last.
    """
    colours = [_rgb(digits) for digits in DISTINCT.split()]
    colours = [colour for colour in colours if colour not in taken]
    if taken:
        gaps = np.linalg.norm(_lab(colours)[:, None] - _lab(taken), axis=2).min(axis=1)
        colours = [colours[i] for i in np.argsort(-gaps, kind='stable')]
    known = {*colours, *taken}
    colours += [c for c in _voc_colours(n + len(known)) if c not in known]
    return tuple(colours[:n])


def _rgb(digits: str) -> Colour:
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _lab(colours: Sequence[Colour]) -> np.ndarray:
    """Convert (C) colours to CIELAB, (C, 3)."""
    import cv2

    row = np.array([colours], np.float32) / 255
    return np.asarray(cv2.cvtColor(row, cv2.COLOR_RGB2LAB))[0]


def _voc_colours(n: int) -> Iterator[Colour]:
    """Yield PASCAL VOC's colour map without its first, black.

    The bits of an index go to red, green and blue in turn, to the highest bit first.
    """

    def channel(index: int, offset: int) -> int:
        return sum((index >> (3 * bit + offset) & 1) << (7 - bit) for bit in range(8))

    return ((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(1, n + 1))


def list_vocabularies() -> list[str]:
    """List the names of the vocabularies that come with the package."""
    return sorted(path.stem for path in DATA.glob('*.txt'))


def load_vocabulary(source: Vocabulary | str | Path | Sequence[str]) -> Vocabulary:
    """Load a vocabulary by its name ('voc_20'), from a text file, or from a list of its lines.

    Raises:
        UserError: an unknown name, an unreadable file, or classes that `Vocabulary` refuses.
    """
    if isinstance(source, Vocabulary):
        return source
    if not isinstance(source, (str, Path, Sequence)):
        raise UserError(f'a vocabulary is a name, a text file or a list of classes, not {source!r}')
    if not isinstance(source, (str, Path)):
        lines = [str(line) for line in source]
        for i, line in enumerate(lines):
            if not line.strip():  # to skip it, as in a file, would shift the ids after it
                raise UserError(f'the list of classes has an empty name at position {i}')
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
