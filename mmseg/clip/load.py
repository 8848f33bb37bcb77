"""A CLIP by name and source: open_clip's architectures, a tag's, a file's or random weights."""

import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import open_clip
from torch import nn

from mmseg.errors import UserError
from mmseg.utils import in_checkout, nearest
from mmseg.utils.checkpoint import misfit, require_finite_state

from .state_dict import read_clip_state

logger = logging.getLogger(__name__)

BUILT_IN = Path(__file__).parent / 'miniature'  # two towers small enough to come with the code

# What a file may lack: only the image-level embedding needs it.
POOL_ONLY = ('visual.attnpool.positional_embedding',)


@dataclass(frozen=True)
class LoadedCLIP:
    """An open_clip model and what is known of it.

    Attributes:
        model: open_clip's module; `model.visual` is the image tower.
        name: the architecture, for its tokenizer.
        mean, std: RGB, for values in 0..1.
        has_text: the text tower has weights (a file may hold the image tower alone).
        can_pool: the image-level embedding has all its weights.
        source: where the weights came from, for messages.
        embed_dim: D of the space that image and text share.
        text_cfg: open_clip's description of the text tower.
    """

    model: nn.Module
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    has_text: bool
    can_pool: bool
    source: str
    embed_dim: int | None
    text_cfg: dict


def load_clip(model, pretrained, *, pretrain_dir='pretrain'):
    """Build an open_clip model in fp32, in eval mode, with all its weights or an error.

    Args:
        model: an open_clip architecture ('ViT-B-16-quickgelu', 'RN50', 'hf-hub:org/name'), one of
            the miniature's ('miniature-rn', 'miniature-vit'), or a JSON file, or a dict, with
            `embed_dim`, `vision_cfg` and `text_cfg`.
        pretrained: a file (layouts: `read_clip_state`), a tag of open_clip ('openai',
            'laion2b_s34b_b88k'), 'miniature' for the miniature's own, or 'random' for untrained.
        pretrain_dir: where `<model>--<tag>.safetensors`, `.bin` or `.pt` and OpenAI's `<model>.pt`
            are looked for before the network is.

    Raises:
        UserError: an unknown name or tag, weights that cannot be fetched, or that do not fit.
    """
    config, preprocess = _architecture(model)
    name = model if isinstance(model, str) else 'custom'
    if pretrained is None:
        raise UserError(
            f'no weights are named for {name}; set pretrained to a file, to a tag of '
            "open_clip such as 'openai', or to 'random'"
        )
    file = _local_file(name, str(pretrained), Path(pretrain_dir))
    if config is None or (file is None and pretrained != 'random'):
        return _from_tag(name, pretrained, config or {})
    if file is None:
        logger.warning('%s has RANDOM weights: its labels mean nothing', name)
        network, missing = _build(config), set()
    else:
        state, by_openai = read_clip_state(file)
        known = open_clip.get_pretrained_cfg(name, str(pretrained)) or {}
        preprocess |= {k: known[k] for k in preprocess if k in known}
        quick = config.get('quick_gelu', False) or by_openai or known.get('quick_gelu', False)
        network = _build(dict(config, quick_gelu=quick))
        missing = _load_strictly(network, state, f'{file} does not fit {name}')
    return LoadedCLIP(
        network,
        name,
        tuple(preprocess['mean']),
        tuple(preprocess['std']),
        has_text=not any(key for key in missing if not key.startswith('visual.')),
        can_pool=not missing.intersection(POOL_ONLY),
        source=str(file or pretrained),
        embed_dim=config['embed_dim'],
        text_cfg=config['text_cfg'],
    )


def _architecture(model):
    """Name, JSON file or dict -> (config, {'mean', 'std'}); config None for a hub's own."""
    preprocess = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    if isinstance(model, str) and model.startswith(('hf-hub:', 'local-dir:')):
        return None, preprocess
    if isinstance(model, str) and (BUILT_IN / f'{model}.json').is_file():
        model = str(BUILT_IN / f'{model}.json')
    if isinstance(model, str) and not model.endswith('.json'):
        config = open_clip.get_model_config(model)
        if config is None:
            raise UserError(
                f'open_clip has no model {model!r}'
                f'{nearest(model, open_clip.list_models())}; see open_clip.list_models()'
            )
        return config, preprocess | _agreed_preprocess(model)
    if isinstance(model, str):
        try:
            model = json.loads(Path(model).read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f'{model} is no readable JSON description of a CLIP: {error}'
            ) from error
    lacking = {'embed_dim', 'vision_cfg', 'text_cfg'} - set(model)
    if lacking:
        raise UserError(f'the description of a CLIP lacks {", ".join(sorted(lacking))}')
    preprocess.update({k: v for k, v in model.get('preprocess_cfg', {}).items() if k in preprocess})
    return {k: v for k, v in model.items() if k not in ('preprocess_cfg', 'note')}, preprocess


def _agreed_preprocess(name):
    """mean and std of an architecture's known weights, {} unless all of them agree."""
    tags = [
        open_clip.get_pretrained_cfg(name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(name)
    ]
    known = {(tuple(t['mean']), tuple(t['std'])) for t in tags if t.get('mean') and t.get('std')}
    if len(known) != 1 or not all(t.get('mean') for t in tags):
        return {}
    mean, std = known.pop()
    return dict(mean=mean, std=std)


def _local_file(name, pretrained, pretrain_dir):
    """The file that `pretrained` means, or None when it is a tag (or 'random')."""
    if os.path.isfile(pretrained):
        return pretrained
    if pretrained == 'miniature':
        return str(BUILT_IN / f'{name}.safetensors')
    for file in fetched_names(name, pretrained):
        path = Path(in_checkout(pretrain_dir / file))
        if path.is_file():
            return str(path)
    if os.sep in pretrained or pretrained.endswith(('.pt', '.pth', '.bin', '.safetensors')):
        raise UserError(
            f'no weights file {pretrained}; put it there, or set pretrained to a tag '
            "that open_clip knows, such as 'openai'"
        )
    return None


def fetched_names(model, tag):
    """An open_clip model and tag -> the names that its weights may have in `pretrain`"""
    stem = model.removesuffix('-quickgelu').replace('/', '-')
    archive = [f'{stem}.pt'] if tag == 'openai' else []
    return archive + [f'{stem}--{tag}{suffix}' for suffix in ('.safetensors', '.bin', '.pt')]


def _build(config):
    if 'multimodal_cfg' in config:
        raise UserError('CoCa models have no CLIP image tower to read dense features from')
    config = dict(config, vision_cfg=dict(config['vision_cfg']), text_cfg=dict(config['text_cfg']))
    custom = config.pop('custom_text', False) or 'hf_model_name' in config['text_cfg']
    for tower, own in (('vision_cfg', 'timm_model'), ('text_cfg', 'hf_model')):
        if f'{own}_name' in config[tower]:
            config[tower][f'{own}_pretrained'] = False
    network = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    return network.float().eval()


def _load_strictly(network, state, problem):
    """Load a state -> the names that it lacks: of the text tower, and POOL_ONLY."""
    own = network.state_dict()
    text = {name for name in own if not name.startswith('visual.')}
    optional = {*POOL_ONLY} if text & set(state) else {*POOL_ONLY, *text}
    reason = misfit(own, state, optional)
    if reason:
        raise UserError(f'{problem}: {reason}; name the architecture that they are of')
    network.load_state_dict(state, strict=False)
    return set(own) - set(state)


def _from_tag(name, tag, config):
    """open_clip's own loading, which may use the network: say so first, and how to do without."""
    hub = name.startswith(('hf-hub:', 'local-dir:'))
    cleaned = name.replace('/', '-')
    tags = [] if hub else open_clip.list_pretrained_tags_by_model(cleaned)
    if not hub and tag not in tags:
        raise UserError(
            f'{name} has no pretrained tag {tag!r}{nearest(tag, tags)}; '
            f'known: {", ".join(tags) or "none"}'
        )
    known = {} if hub else open_clip.get_pretrained_cfg(cleaned, tag)
    where = known.get('hf_hub', '').strip('/') or known.get('url') or name
    print(f'weights {name}:{tag}: from {where}, or its cache', file=sys.stderr, flush=True)
    try:
        logging.disable(logging.ERROR)  # the hub client repeats every retry, twice
        network = open_clip.create_model(
            name, None if hub else tag, force_quick_gelu=bool(known.get('quick_gelu'))
        )
    except Exception as error:  # the hub client's errors have no common type
        file = f'pretrain/{name.removesuffix("-quickgelu")}.pt'
        cure = f'put the file at {file} or' if tag == 'openai' else 'fetch the file elsewhere and'
        raise UserError(
            f'the weights {name}:{tag} could not be fetched from {where}; offline, {cure} '
            'set pretrained to a file'
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    require_finite_state(network.state_dict(), f'{name}:{tag} holds', 'use other weights')
    preprocess = open_clip.get_model_preprocess_cfg(network)
    return LoadedCLIP(
        network.eval(),
        name,
        tuple(preprocess['mean']),
        tuple(preprocess['std']),
        has_text=True,
        can_pool=True,
        source=f'{name}:{tag}',
        embed_dim=getattr(network.visual, 'output_dim', config.get('embed_dim')),
        text_cfg=config.get('text_cfg', {}),
    )
