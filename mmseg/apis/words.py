"""The words of a user: classes, a background, prompt templates, a class weight."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from mmseg.errors import UserError
from mmseg.models.class_weight import Tau
from mmseg.utils import require_setting
from mmseg.vocabularies import Vocabulary, load_vocabulary

Colour = tuple[int, int, int]


class Words(NamedTuple):
    """The classes to segment; hashable, as the key of a model's cache.

    Attributes:
        vocabulary: the classes, then those that together are the background.
        background: number of the classes that together are the background.
        templates: name of the prompt templates, None for the config's.
        tau: temperature of the class weight, None for the config's.
    """

    vocabulary: Vocabulary
    background: int = 0
    templates: str | None = None
    tau: float | None = None

    def classes(self) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
        """Return (C) names and (C) colours, the background as one class."""
        labels, palette = tuple(self.vocabulary.labels), tuple(self.vocabulary.palette)
        if not self.background:
            return labels, palette
        first = len(labels) - self.background
        return (*labels[:first], 'background'), (*palette[:first], (128, 128, 128))

    def label_vocabulary(self) -> Vocabulary:
        """Return the classes of the labels, the background as one class.

        Raises:
            UserError: one of the words is 'background', and there is a background besides.
        """
        labels, palette = self.classes()
        return Vocabulary('this list', labels, tuple((name,) for name in labels), palette)


def words_of(
    model: Any,
    classes: str | Iterable[str] | None = None,
    background: str | Iterable[str] = (),
    templates: str | None = None,
    tau: float | None = None,
) -> Words:
    """Parse the words of a user; see `mmseg.apis.segment`.

    Raises:
        UserError: no class, an empty one, or one that is named twice.
    """
    if templates is not None and not isinstance(templates, str):
        raise UserError(f"templates is a name of templates, such as 'plain', not {templates!r}")
    if tau is not None:
        require_setting('tau', tau, Tau)
    if classes is None and not background:
        return Words(model.vocabulary, 0, templates, tau)
    if classes is None:
        vocabulary = model.vocabulary
        names = [f'{x}: {" | ".join(p)}' for x, p in zip(vocabulary.labels, vocabulary.prompts)]
    else:
        names = names_of(classes)
    other_names = names_of(background)
    if not names:
        raise UserError('no class is named; give one or more words, such as "dog, grass, sky"')
    return Words(load_vocabulary([*names, *other_names]), len(other_names), templates, tau)


def names_of(classes: str | Iterable[str]) -> list[str]:
    """Split 'dog, grass' or ['dog', 'grass'] into ['dog', 'grass'].

    Raises:
        UserError: a name is empty, or no text.
    """
    if isinstance(classes, str):
        classes = classes.split(',') if classes.strip() else []
    names = list(classes) if isinstance(classes, Iterable) else [classes]
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                'classes are names, a list or separated by commas such as "dog, grass, sky"; '
                f'{name!r} is none'
            )
    names = [' '.join(name.split()) for name in names]
    if '' in names:
        raise UserError(
            f'an empty class name in {", ".join(map(repr, names))}; is a comma too many?'
        )
    return names
