"""CLIP weight files of every layout in use -> one layout: open_clip's names."""

import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmseg.errors import UserError
from mmseg.utils import what_is

from .compact import expand

# Entries of OpenAI's archives that are no weights.
NO_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size')

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
RESNET_STEM = {'0': 'conv1', '1': 'bn1', '3': 'conv2', '4': 'bn2', '6': 'conv3', '7': 'bn3'}


def read_clip_state(path):
    """File -> ({name: tensor}, by_openai); the image tower's names start with 'visual.'.

    Reads OpenAI's TorchScript archives, open_clip's .pt/.bin/.safetensors (of both towers or of the
    image tower alone), and the original MaskCLIP repositories' `*_clip_weights.pth` and
    `*_clip_backbone.pth`; the latter lacks the projections, which are read from the former beside
    it. `by_openai` tells that the layout is one that only OpenAI's weights (QuickGELU) come in.

    Raises:
        UserError: the file is missing, damaged, or of no such layout.
    """
    path = Path(path)
    content = _read(path)
    if 'clip' in content:
        return _from_maskclip(content['clip'], content, path), True
    state = _unwrap(content, path)
    if any(name.startswith('backbone.') for name in state):
        beside = path.with_name(path.name.replace('backbone', 'weights'))
        if beside == path or not beside.is_file():
            raise UserError(
                f'{path} holds the CLIP backbone without its projections; put '
                f'{path.stem.split("_")[0]}_clip_weights.pth beside it'
            )
        trunk = {name.removeprefix('backbone.'): t for name, t in state.items()}
        return _from_maskclip(trunk, _read(beside), beside), True
    state = expand(state)
    if not any(name.startswith('visual.') for name in state):
        state = {f'visual.{name}': tensor for name, tensor in state.items()}
    return state, any(name in content.get('state_dict', content) for name in NO_WEIGHTS)


def read_state(path):
    """File of tensors -> its content, read without running code; see `read_clip_state`."""
    return _unwrap(_read(Path(path)), path)


def _read(path):
    """File -> the dict it holds"""
    content = _load(path)
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not the weights of a network')
    return content


def _load(path):
    if not path.is_file():
        raise UserError(
            f'no weights file {path}; `bash download_weights.sh` fetches what the configs need'
        )
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        if _is_torchscript(path):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # torch.jit is deprecated, its archives are not
                return dict(torch.jit.load(path, map_location='cpu').state_dict())
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f'{path} is no plain weights file: {what_is(path)}, damaged, or one that would run '
            'code when read; fetch it again, or save its state_dict alone, best as .safetensors'
        ) from error
    except (SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f'{path} is damaged or no weights file: {what_is(path)} ({_first_line(error)}); '
            'fetch it again'
        ) from error


def _is_torchscript(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unwrap(content, path):
    state = content.get('state_dict', content)
    if not isinstance(state, dict):
        raise UserError(f'{path} has a state_dict that is no dict of weights')
    state = {
        str(name).removeprefix('module.'): t
        for name, t in state.items()
        if isinstance(name, str) and torch.is_tensor(t) and name not in NO_WEIGHTS
    }
    if not state:
        raise UserError(
            f'{path} holds no weights (found: {", ".join(map(str, content)) or "nothing"})'
        )
    return state


def _from_maskclip(trunk, projections, path):
    """The original's trunk and projections -> names under 'visual.'.

    A ViT has {'proj': {'weight'}}, a ResNet {'q_proj', 'k_proj', 'v_proj', 'c_proj'} of its pool.
    """
    needed = ['proj'] if 'proj' in projections else ['v_proj', 'k_proj', 'c_proj']
    lacking = [name for name in needed if not isinstance(projections.get(name), dict)]
    if lacking or not isinstance(trunk, dict) or not trunk:
        raise UserError(f'{path} lacks {", ".join(lacking) or "a trunk"}; convert the CLIP again')
    rename = _vit_name if 'proj' in projections else _resnet_name
    state = {f'visual.{rename(name)}': tensor for name, tensor in trunk.items()}
    if 'proj' in projections:
        for name in {'visual.class_embedding', 'visual.positional_embedding'} & set(state):
            state[name] = state[name].reshape(-1, state[name].shape[-1]).squeeze(0)
        state['visual.proj'] = projections['proj'].get('weight', torch.empty(0, 0)).t()
    for name in ('q_proj', 'k_proj', 'v_proj', 'c_proj'):
        for kind, tensor in projections.get(name, {}).items():
            state[f'visual.attnpool.{name}.{kind}'] = tensor
    return state


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
    parts = name.split('.')
    if parts[0] == 'stem':
        return '.'.join([RESNET_STEM[parts[1]], *parts[2:]])
    if 'downsample' in parts:  # theirs counts the average pool first
        at = parts.index('downsample') + 1
        parts[at] = str(int(parts[at]) - 1)
    return '.'.join(parts)
