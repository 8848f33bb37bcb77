"""Checkpoints of other layouts, and the weights of a student."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import describe_weights
from mmseg.utils.checkpoint import joined, meta_of, misfit, read_file, read_state, state_of
from mmseg.vocabularies import Vocabulary

LOSS_STATE = 'robust_loss.'  # counts of the training, which a student alone does not need
State = dict[str, Tensor]

# transformers' name -> NVIDIA's; stages count from 0 there, from 1 at NVIDIA's.
HUB_STAGES = (
    (r'encoder\.patch_embeddings\.(\d)\.layer_norm\.', 'patch_embed{}.norm.'),
    (r'encoder\.patch_embeddings\.(\d)\.', 'patch_embed{}.'),
    (r'encoder\.layer_norm\.(\d)\.', 'norm{}.'),
    (r'encoder\.block\.(\d)\.', 'block{}.'),
)
HUB_PARTS = (
    ('.attention.self.layer_norm.', '.attn.norm.'),
    ('.attention.self.query.', '.attn.q.'),
    ('.attention.self.sr.', '.attn.sr.'),
    ('.attention.output.dense.', '.attn.proj.'),
    ('.layer_norm_', '.norm'),
    ('.dense1.', '.fc1.'),
    ('.dense2.', '.fc2.'),
)
# NVIDIA's name -> mmsegmentation's, inside a block.
PARTS = (
    ('.attn.proj.', '.attn.attn.out_proj.'),
    ('.mlp.fc1.', '.ffn.layers.0.'),
    ('.mlp.dwconv.dwconv.', '.ffn.layers.1.'),
    ('.mlp.fc2.', '.ffn.layers.4.'),
)
CONVOLVED = ('.ffn.layers.0.weight', '.ffn.layers.4.weight')  # linear at NVIDIA, 1 x 1 here
KEY, VALUE = '.attention.self.key.', '.attention.self.value.'
Q, KV, Q_K_V = '.attn.q.', '.attn.kv.', '.attn.attn.in_proj_'


def read_mit(path: str | Path) -> State:
    """Read MiT weights in any of the three layouts, with mmsegmentation's names, contiguous."""
    return {name: t.contiguous() for name, t in to_mmseg(read_state(path), path).items()}


def to_mmseg(state: State, source: str | Path = 'the file') -> State:
    """Rename MiT weights of any of the three layouts to mmsegmentation's names; lose none.

    Names without a counterpart stay as they are, and so fit no network.

    Raises:
        UserError: the names are of no MiT.
    """
    state = {re.sub(r'^(backbone|segformer)\.', '', name): t for name, t in state.items()}
    if 'layers.0.0.projection.weight' in state:
        return state
    if 'encoder.patch_embeddings.0.proj.weight' in state:
        state = _from_hub(state)
    if 'patch_embed1.proj.weight' not in state:
        raise UserError(f'{source} holds no MiT: it is {describe_weights(state)}')
    return _from_nvidia(state)


def _joined_pairs(state: State, first: str, second: str, both: str) -> State:
    """Join weights such as 'a.q.weight' and 'a.kv.weight' to 'a.qkv.weight', if they fit"""
    renamed = dict(state)
    for name, tensor in state.items():
        other = name.replace(first, second)
        together = joined(tensor, state.get(other)) if first in name else None
        if together is not None:
            del renamed[name], renamed[other]
            renamed[name.replace(first, both)] = together
    return renamed


def _from_nvidia(state: State) -> State:
    renamed = {}
    for name, tensor in _joined_pairs(state, Q, KV, Q_K_V).items():
        name = _stage_name(name)
        for theirs, ours in PARTS:
            name = name.replace(theirs, ours)
        convolved = name.endswith(CONVOLVED) and tensor.ndim == 2
        renamed[name] = tensor[:, :, None, None] if convolved else tensor
    return renamed


def _stage_name(name: str) -> str:
    """'block2.0.norm1.weight' -> 'layers.1.1.0.norm1.weight'; other names as they are"""
    for i, module in enumerate(('patch_embed', 'block', 'norm')):
        if stage := re.match(module + r'(\d)\.', name):
            rest = name[stage.end() :]
            if module == 'patch_embed':
                rest = re.sub(r'^proj\.', 'projection.', rest)
            return f'layers.{int(stage[1]) - 1}.{i}.{rest}'
    return name


def _from_hub(state: State) -> State:
    renamed = {}
    for name, tensor in _joined_pairs(state, KEY, VALUE, KV).items():
        for pattern, stage in HUB_STAGES:
            if number := re.match(pattern, name):
                name = stage.format(int(number[1]) + 1) + name[number.end() :]
        for hub, nvidia in HUB_PARTS:
            name = name.replace(hub, nvidia)
        renamed[name] = tensor
    return renamed


# The frozen teacher, the prior encoder and counters, which a student does not need.
DROPPED = re.compile(
    r'decode_head\.(clip|clip_model|proj|[qkvc]_proj|_iter_counter|logit_scale|loss_decode)\b'
)
STEM = re.compile(r'backbone\.stem\.(\d)\.')


def is_original(state: State) -> bool:
    """Tell whether a state is a MaskCLIP+ checkpoint of the original repositories."""
    return any(name.startswith('decode_head.decode_module.') for name in state)


def from_original(state: State) -> State:
    """Extract the student from an original checkpoint, in this project's names."""
    student = {
        _rename(name): tensor
        for name, tensor in state.items()
        if not DROPPED.match(name) and not name.startswith('decode_head.decode_module.conv_seg.')
    }
    text, background = 'decode_head.conv_seg.embeddings', 'decode_head.bg_embeddings'
    rows = joined(student.get(background), student.get(text))
    if rows is not None:  # a learned class 0 before the text's
        student['decode_head.conv_seg.learned'] = student.pop(background)
        student[text] = rows
    return student


def _rename(name: str) -> str:
    name = name.replace('decode_head.decode_module.', 'decode_head.')
    if name == 'decode_head.text_embeddings':
        return 'decode_head.conv_seg.embeddings'
    if re.match(r'backbone\.(stem\.|layer[1-4])', name):
        stem = STEM.match(name)
        if stem:  # ResNet V1c's deep stem: timm keeps its last norm beside it
            module = 'bn1' if stem[1] == '7' else f'conv1.{stem[1]}'
            return f'backbone.body.{module}.{name[stem.end() :]}'
        return name.replace('backbone.', 'backbone.body.')
    return name


# Trained students


def read_student(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a student's file: -> {name: tensor} in our names, without its loss's, and `meta_of`"""
    content = read_file(path)
    state = state_of(content, path)
    if is_original(state):
        state = from_original(state)
    text = state.get('decode_head.conv_seg.embeddings')
    if text is None or text.ndim != 2:
        raise UserError(f'{path} is no checkpoint of a MaskCLIP+ student: it holds no text')
    student = {name: t for name, t in state.items() if not name.startswith(LOSS_STATE)}
    return student, meta_of(content, path)


def load_student(
    model: nn.Module, state: dict[str, Tensor], path: str | Path, vocabulary: Vocabulary
) -> None:
    """Load what `read_student` returned.

    Raises:
        UserError: it is of other classes, or of another network.
    """
    rows = len(state['decode_head.conv_seg.embeddings'])
    if rows != len(vocabulary):
        raise UserError(
            f'the student of {path} knows {rows} classes, the vocabulary {vocabulary.name} has '
            f'{len(vocabulary)}'
        )
    needed = model.state_dict()
    reason = misfit(needed, state, {name for name in needed if name.startswith(LOSS_STATE)})
    if reason:
        raise UserError(f'{path} does not fit this student: {reason}')
    model.load_state_dict(state, strict=False)
