"""What a user names in words: classes, a background, prompt templates, a class weight."""

from collections.abc import Iterable
from typing import NamedTuple

from mmseg.errors import UserError
from mmseg.models.class_weight import Tau
from mmseg.utils import require_setting
from mmseg.vocabularies import Vocabulary, load_vocabulary


class Words(NamedTuple):
    """What to look for: hashable, so that a model remembers it.

    Attributes:
        vocabulary: the classes, and behind them those that together are the background.
        background: how many of them are.
        templates: name of the prompt templates, None for the config's.
        tau: temperature of the class weight, None for the config's.
    """

    vocabulary: Vocabulary
    background: int = 0
    templates: str | None = None
    tau: float | None = None


def words_of(model, classes=None, background=(), templates=None, tau=None) -> Words:
    """What a user names -> Words.

    Raises:
        UserError: no class, an empty one, one that is named twice; no words at all.
    """
    if templates is not None and not isinstance(templates, str):
        raise UserError(f"templates is a name of templates, such as 'plain', not {templates!r}")
    if tau is not None:
        require_setting('tau', tau, Tau)
    if classes is None and not background:
        return Words(model.vocabulary, 0, templates, tau)
    classes, background = _lines(model, classes), _names(background)
    if not classes:
        raise UserError('no class is named; give one or more words, such as "dog, grass, sky"')
    return Words(load_vocabulary([*classes, *background]), len(background), templates, tau)


def _lines(model, classes):
    """What a user names, or the config's classes -> lines of a vocabulary"""
    if classes is not None:
        return _names(classes)
    own = model.vocabulary
    return [f'{label}: {" | ".join(prompts)}' for label, prompts in zip(own.labels, own.prompts)]


def _names(classes):
    """'dog, grass' or ['dog', 'grass'] -> ['dog', 'grass']"""
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
        raise UserError(f'an empty class name in {", ".join(map(repr, names))}')
    return names


def classes_of(words):
    """Words -> their (C) names and (C) colours, the background as one"""
    labels, palette = words.vocabulary.labels, words.vocabulary.palette
    if not words.background:
        return tuple(labels), tuple(palette)
    first = len(labels) - words.background
    return (*labels[:first], 'background'), (*palette[:first], (128, 128, 128))
