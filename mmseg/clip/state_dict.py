"""CLIP weight files of every layout in use -> one layout: open_clip's names."""

import re
from pathlib import Path

import open_clip

from mmseg.errors import UserError
from mmseg.utils.checkpoint import NO_WEIGHTS, read_file, state_of

# The original MaskCLIP repositories' names of the ViT tower, by the part they rename.
VIT_PARTS = (
    ('cls_token', 'class_embedding'),
    ('pos_embed', 'positional_embedding'),
    ('patch_embed.projection.', 'conv1.'),
    ('ln0.', 'ln_pre.'),
    ('ln1.', 'ln_post.'),
    ('layers.', 'transformer.resblocks.'),
)
VIT_BLOCK_PARTS = (
    ('.ln1.', '.ln_1.'),
    ('.ln2.', '.ln_2.'),
    ('.attn.attn.', '.attn.'),
    ('.ffn.layers.0.0.', '.mlp.c_fc.'),
    ('.ffn.layers.1.', '.mlp.c_proj.'),
)
# What the converter of those repositories changed besides: new shape, new name.
VIT_SHAPES = (
    ('class_embedding', 'class_embedding', lambda tensor: tensor.flatten()),
    ('positional_embedding', 'positional_embedding', lambda tensor: tensor.squeeze(0)),
    ('attnpool.proj.weight', 'proj', lambda tensor: tensor.transpose(0, -1)),
)
ROWS, IDS = 'token_embedding.weight', 'token_ids'
PROJECTIONS = ('proj', 'q_proj', 'k_proj', 'v_proj', 'c_proj')
RESNET_STEM = {'0': 'conv1', '1': 'bn1', '3': 'conv2', '4': 'bn2', '6': 'conv3', '7': 'bn3'}


def read_clip_state(path):
    """File -> ({name: tensor}, by_openai); the image tower's names start with 'visual.'.

    It renames what it knows; any other name stays, and fits no network. It reads OpenAI's
    TorchScript archives, open_clip's .pt/.bin/.safetensors (of both towers or of the image tower
    alone), and the original MaskCLIP repositories' `*_clip_weights.pth` and `*_clip_backbone.pth`;
    the latter lacks the projections, which are read from the former beside it. `by_openai` tells
    that only OpenAI's weights (QuickGELU) come in this layout.

    Raises:
        UserError: the file is missing, damaged, or of no such layout.
    """
    path = Path(path)
    content = read_file(path)
    if isinstance(content, dict) and 'clip' in content:
        return _from_maskclip(content['clip'], content, path), True
    state = state_of(content, path)
    if any(name.startswith('backbone.') for name in state):
        beside = path.with_name(path.name.replace('backbone', 'weights'))
        if beside == path or not beside.is_file():
            raise UserError(
                f'{path} holds the CLIP backbone without its projections; put '
                f'{path.stem.split("_")[0]}_clip_weights.pth beside it'
            )
        trunk = {name.removeprefix('backbone.'): t for name, t in state.items()}
        return _from_maskclip(trunk, read_file(beside), beside), True
    state = restore_vocabulary(state)
    if not any(name.startswith('visual.') for name in state):
        state = {f'visual.{name}': tensor for name, tensor in state.items()}
    return state, any(name in content.get('state_dict', content) for name in NO_WEIGHTS)


def _from_maskclip(trunk, projections, path):
    """The original's trunk and projections -> names under 'visual.'.

    A ViT has {'proj': {'weight'}}, a ResNet {'q_proj', 'k_proj', 'v_proj', 'c_proj'} of its pool.
    """
    projections = projections if isinstance(projections, dict) else {}
    parts = {key: projections[key] for key in PROJECTIONS if isinstance(projections.get(key), dict)}
    is_vit = 'proj' in projections
    needed = ('proj',) if is_vit else ('k_proj', 'v_proj', 'c_proj')
    lacking = [key for key in needed if key not in parts]
    if lacking:
        raise UserError(f'{path} lacks {", ".join(lacking)}; convert the CLIP again')
    rename = _vit_name if is_vit else _resnet_name
    state = {rename(name): tensor for name, tensor in state_of(trunk, path).items()}
    for key, part in parts.items():
        for kind, tensor in state_of(part, f'{path} ({key})').items():
            state[f'attnpool.{key}.{kind}'] = tensor
    if is_vit:
        for old, new, shaped in VIT_SHAPES:
            if old in state:
                state[new] = shaped(state.pop(old))
    return {f'visual.{name}': tensor for name, tensor in state.items()}


def _vit_name(name):
    for theirs, ours in VIT_PARTS:
        if name.startswith(theirs):
            name = ours + name[len(theirs) :]
            break
    if name.startswith('transformer.'):
        for theirs, ours in VIT_BLOCK_PARTS:
            name = name.replace(theirs, ours)
    return name


def _resnet_name(name):
    name = re.sub(r'^stem\.([013467])\.', lambda found: f'{RESNET_STEM[found[1]]}.', name)
    return re.sub(  # theirs counts the average pool first
        r'\.downsample\.([12])\.', lambda found: f'.downsample.{int(found[1]) - 1}.', name
    )


def prune_vocabulary(state, sentences):
    """{name: tensor}, all that it ever read -> the same in half precision, without other words"""
    ids = open_clip.tokenize(sentences).unique()
    small = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    return {**small, ROWS: small[ROWS][ids], IDS: ids.int()}


def restore_vocabulary(state, words=49408):
    """Undo `prune_vocabulary`: unknown words get rows of 0; other states stay as they are."""
    known, ids = state.get(ROWS), state.get(IDS)
    if ids is None or known is None or known.ndim != 2 or ids.shape != known.shape[:1]:
        return state
    if not ((0 <= ids) & (ids < words)).all():
        return state
    rows = known.new_zeros(words, known.shape[1])
    rows[ids.long()] = known
    return {name: t for name, t in state.items() if name != IDS} | {ROWS: rows}
