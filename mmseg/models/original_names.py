"""Checkpoints of the original repositories (mmsegmentation 0.x names) -> this project's names."""

import re

from mmseg.utils.checkpoint import joined

# The frozen teacher, the prior_encoder and counters, which a student's checkpoint need not carry.
DROPPED = re.compile(
    r'decode_head\.(clip|clip_model|proj|[qkvc]_proj|_iter_counter|logit_scale|loss_decode)\b'
)
STEM = re.compile(r'backbone\.stem\.(\d)\.')


def is_original(state):
    """{name: tensor} -> whether it is a MaskCLIP+ checkpoint of the original repositories."""
    return any(name.startswith('decode_head.decode_module.') for name in state)


def from_original(state):
    """{name: tensor} -> the student alone, in this project's names."""
    own = {
        _rename(name): tensor
        for name, tensor in state.items()
        if not DROPPED.match(name) and not name.startswith('decode_head.decode_module.conv_seg.')
    }
    text, background = 'decode_head.conv_seg.embeddings', 'decode_head.bg_embeddings'
    rows = joined(own.get(background), own.get(text))
    if rows is not None:  # a learned class 0 before the text's
        own['decode_head.conv_seg.learned'] = own.pop(background)
        own[text] = rows
    return own


def _rename(name):
    name = name.replace('decode_head.decode_module.', 'decode_head.')
    if name == 'decode_head.text_embeddings':
        return 'decode_head.conv_seg.embeddings'
    if name.startswith(
        (
            'backbone.stem.',
            'backbone.layer1',
            'backbone.layer2',
            'backbone.layer3',
            'backbone.layer4',
        )
    ):
        stem = STEM.match(name)
        if stem:  # ResNet V1c's deep stem: timm keeps its last norm beside it
            own = 'bn1' if stem[1] == '7' else f'conv1.{stem[1]}'
            return f'backbone.body.{own}.{name[stem.end() :]}'
        return name.replace('backbone.', 'backbone.body.')
    return name
