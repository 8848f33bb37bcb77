"""Sentences around a class name, averaged into one embedding (prompt ensembling)."""

from open_clip import OPENAI_IMAGENET_TEMPLATES

from mmseg.errors import UserError
from mmseg.utils import nearest

PLAIN = ('a photo of a {}.',)
IMAGENET = tuple(template('{}') for template in OPENAI_IMAGENET_TEMPLATES)
IN_A_SCENE = tuple(f'there is {article} {{}} in the scene.' for article in ('a', 'the')) + tuple(
    f'this is {article} {{}} in the scene.' for article in ('a', 'the', 'one')
)

MINIATURE = (
    '{}.',
    'a photo of {}.',
    'a picture of {}.',
    'an image with {}.',
    'a scene with {}.',
    'a small photo of {}.',
    'this is a photo of {}.',
    'there is {} in the scene.',
)

TEMPLATES = {
    'name': ('{}',),  # the bare prompt
    'plain': PLAIN,
    'imagenet80': IMAGENET,  # CLIP's own ensemble for ImageNet
    'miniature': MINIATURE,  # what the miniature world's captions look like
    'maskclip85': IMAGENET + IN_A_SCENE,  # the ensemble of MaskCLIP's published text files
}


def resolve_templates(templates):
    """A name of TEMPLATES or a sequence of sentences -> tuple of sentences with one '{}' each.

    Raises:
        UserError: an unknown name, no sentence, or a sentence without exactly one '{}'.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise UserError(
                f'no prompt templates are called {templates!r}'
                f'{nearest(templates, TEMPLATES)}; known: {", ".join(TEMPLATES)}'
            )
        return TEMPLATES[templates]
    templates = tuple(templates)
    if not templates:
        raise UserError('templates is empty; give at least one sentence with {} in it')
    for sentence in templates:
        if sentence.count('{}') != 1:
            raise UserError(f'the template {sentence!r} needs exactly one {{}} for the class name')
    return templates
