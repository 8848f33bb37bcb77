"""MiT weights by the names of NVIDIA, of transformers and of mmsegmentation, which are ours."""

import re

from mmseg.errors import UserError
from mmseg.utils import kind_of
from mmseg.utils.checkpoint import joined, read_state

# transformers' name -> NVIDIA's; places count from 0 there, from 1 at NVIDIA's.
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
Q, KV, BOTH = '.attn.q.', '.attn.kv.', '.attn.attn.in_proj_'


def read_mit(path):
    """A file in any of the three layouts -> {name: tensor} in mmsegmentation's, contiguous"""
    return {name: t.contiguous() for name, t in to_mmseg(read_state(path), path).items()}


def to_mmseg(state, source='the file'):
    """{name: tensor} in any of the three layouts -> in mmsegmentation's; no tensor is lost.

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
        raise UserError(f'{source} holds no MiT: it is {kind_of(state)}')
    return _from_nvidia(state)


def _from_nvidia(state):
    ours = {}
    for name, tensor in state.items():
        if KV in name and name.replace(KV, Q) in state:
            continue  # taken with its queries
        both = joined(tensor, state.get(name.replace(Q, KV))) if Q in name else None
        if both is not None:
            tensor, name = both, name.replace(Q, BOTH)
        name = _stage_name(name)
        for part, own in PARTS:
            name = name.replace(part, own)
        convolved = name.endswith(CONVOLVED) and tensor.ndim == 2
        ours[name] = tensor[:, :, None, None] if convolved else tensor
    return ours


def _stage_name(name):
    """'block2.0.norm1.weight' -> 'layers.1.1.0.norm1.weight'; other names as they are"""
    for place, kind in enumerate(('patch_embed', 'block', 'norm')):
        stage = re.match(kind + r'(\d)\.', name)
        if stage:
            rest = name[stage.end() :]
            if kind == 'patch_embed':
                rest = re.sub(r'^proj\.', 'projection.', rest)
            return f'layers.{int(stage[1]) - 1}.{place}.{rest}'
    return name


def _from_hub(state):
    theirs = {}
    for name, tensor in state.items():
        if VALUE in name and name.replace(VALUE, KEY) in state:
            continue  # taken with its keys
        if (
            KEY in name
            and (both := joined(tensor, state.get(name.replace(KEY, VALUE)))) is not None
        ):
            tensor, name = both, name.replace(KEY, KV)
        for pattern, stage in HUB_STAGES:
            name = re.sub('^' + pattern, lambda found, s=stage: s.format(int(found[1]) + 1), name)
        for part, own in HUB_PARTS:
            name = name.replace(part, own)
        theirs[name] = tensor
    return theirs
