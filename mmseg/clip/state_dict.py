"""Weight files of CLIP in every layout in use -> open_clip's names."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils.checkpoint import NO_WEIGHTS, read_file, state_of

State = dict[str, Tensor]
# The original MaskCLIP repositories' names of the ViT tower, by the part that is renamed.
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
# Parts whose shape their converter changed too.
VIT_SHAPES: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ('class_embedding', 'class_embedding', lambda tensor: tensor.flatten()),
    ('positional_embedding', 'positional_embedding', lambda tensor: tensor.squeeze(0)),
    ('attnpool.proj.weight', 'proj', lambda tensor: tensor.transpose(0, -1)),
)
ROWS, IDS = 'token_embedding.weight', 'token_ids'
PROJECTIONS = ('proj', 'q_proj', 'k_proj', 'v_proj', 'c_proj')
RESNET_STEM = {'0': 'conv1', '1': 'bn1', '3': 'conv2', '4': 'bn2', '6': 'conv3', '7': 'bn3'}


def read_clip_state(path: str | Path) -> tuple[State, bool]:
    """Read a file of CLIP weights; names of the image tower start with 'visual.'.

    Layouts: OpenAI's TorchScript archives, open_clip's .pt/.bin/.safetensors (of both towers or of
    the image tower alone), and the original MaskCLIP repositories' `*_clip_weights.pth` and
    `*_clip_backbone.pth`. The latter lacks the projections, which are read from the former beside
    it. Unknown names stay as they are, and fit no network.

    Returns:
        {name: tensor}, and whether the layout is only used for OpenAI's weights (QuickGELU).

    Raises:
        UserError: the file is missing, damaged, or of no such layout.
    """
    path = Path(path)
    content = read_file(path)
    if isinstance(content, dict) and 'clip' in content:
        return _from_maskclip(content['clip'], content, path), True
    state = state_of(content, path)
    if any(name.startswith('backbone.') for name in state):
        weights = path.with_name(path.name.replace('backbone', 'weights'))
        if weights == path or not weights.is_file():
            raise UserError(
                f'{path} holds the CLIP backbone without its projections; put '
                f'{path.stem.split("_")[0]}_clip_weights.pth beside it'
            )
        trunk = {name.removeprefix('backbone.'): t for name, t in state.items()}
        return _from_maskclip(trunk, read_file(weights), weights), True
    state = restore_vocabulary(state)
    if not any(name.startswith('visual.') for name in state):
        state = {f'visual.{name}': tensor for name, tensor in state.items()}
    return state, any(name in content.get('state_dict', content) for name in NO_WEIGHTS)


def _from_maskclip(trunk: Any, projections: Any, path: Path) -> State:
    """Rename the original's trunk and projections to open_clip's image tower.

    A ViT has {'proj': {'weight'}}, a ResNet {'q_proj', 'k_proj', 'v_proj', 'c_proj'} of its pool.
    """
    projections = projections if isinstance(projections, dict) else {}
    parts = {key: projections[key] for key in PROJECTIONS if isinstance(projections.get(key), dict)}
    is_vit = 'proj' in projections
    needed = ('proj',) if is_vit else ('k_proj', 'v_proj', 'c_proj')
    if lacking := [key for key in needed if key not in parts]:
        raise UserError(f'{path} lacks {", ".join(lacking)}; convert the CLIP again')
    rename = _vit_name if is_vit else _resnet_name
    state = {rename(name): tensor for name, tensor in state_of(trunk, path).items()}
    for key, part in parts.items():
        for suffix, tensor in state_of(part, f'{path} ({key})').items():
            state[f'attnpool.{key}.{suffix}'] = tensor
    if is_vit:
        for old, new, reshape in VIT_SHAPES:
            if old in state:
                state[new] = reshape(state.pop(old))
    return {f'visual.{name}': tensor for name, tensor in state.items()}


def _vit_name(name: str) -> str:
    for original, renamed in VIT_PARTS:
        if name.startswith(original):
            name = renamed + name[len(original) :]
            break
    if name.startswith('transformer.'):
        for original, renamed in VIT_BLOCK_PARTS:
            name = name.replace(original, renamed)
    return name


def _resnet_name(name: str) -> str:
    name = re.sub(r'^stem\.([013467])\.', lambda match: f'{RESNET_STEM[match[1]]}.', name)
    return re.sub(  # the original counts the average pool first
        r'\.downsample\.([12])\.', lambda match: f'.downsample.{int(match[1]) - 1}.', name
    )


def prune_vocabulary(state: State, sentences: Sequence[str]) -> State:
    """Halve precision and drop the embeddings of words that are not in `sentences`.

    Args:
        sentences: all that the text tower was trained with.
    """
    import open_clip

    ids = open_clip.tokenize(sentences).unique()
    small = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    return {**small, ROWS: small[ROWS][ids], IDS: ids.int()}


def restore_vocabulary(state: State, words: int = 49408) -> State:
    """Undo `prune_vocabulary`: unknown words get rows of 0. Other states stay as they are."""
    rows, ids = state.get(ROWS), state.get(IDS)
    if ids is None or rows is None or rows.ndim != 2 or ids.shape != rows.shape[:1]:
        return state
    if not ((0 <= ids) & (ids < words)).all():
        return state
    restored = rows.new_zeros(words, rows.shape[1])
    restored[ids.long()] = rows
    return {name: t for name, t in state.items() if name != IDS} | {ROWS: restored}
