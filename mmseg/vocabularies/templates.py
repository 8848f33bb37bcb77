"""Sentences around a class name, averaged into one embedding (prompt ensembling)."""

from collections.abc import Sequence

from mmseg.errors import UserError
from mmseg.utils import nearest

SENTENCES = {
    'name': ('{}',),
    'plain': ('a photo of a {}.',),
    'miniature': (  # what the captions of the miniature world look like
        '{}.',
        'a photo of {}.',
        'a picture of {}.',
        'an image with {}.',
        'a scene with {}.',
        'a small photo of {}.',
        'this is a photo of {}.',
        'there is {} in the scene.',
    ),
}
IN_A_SCENE = (
    'there is a {} in the scene.',
    'there is the {} in the scene.',
    'this is a {} in the scene.',
    'this is the {} in the scene.',
    'this is one {} in the scene.',
)
# 'imagenet80' is CLIP's own ensemble for ImageNet; 'maskclip85' adds IN_A_SCENE, as the ensemble
# of MaskCLIP's published text files does.
TEMPLATES = (*SENTENCES, 'imagenet80', 'maskclip85')


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Turn a name of TEMPLATES, or sentences, into sentences with one '{}' each.

    Raises:
        UserError: an unknown name, no sentence, or a sentence without exactly one '{}'.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise UserError(
                f'no prompt templates are called {templates!r}'
                f'{nearest(templates, TEMPLATES)}; known: {", ".join(TEMPLATES)}'
            )
        return SENTENCES.get(templates) or _imagenet() + IN_A_SCENE * (templates == 'maskclip85')
    templates = tuple(templates)
    if not templates:
        raise UserError('templates is empty; give at least one sentence with {} in it')
    for sentence in templates:
        if sentence.count('{}') != 1:
            raise UserError(f'the template {sentence!r} needs exactly one {{}} for the class name')
    return templates


def _imagenet() -> tuple[str, ...]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template('{}') for template in OPENAI_IMAGENET_TEMPLATES)
