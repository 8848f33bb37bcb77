"""Load a CLIP by the name of an architecture and a tag or file; or one of transformers."""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import hub_errors, in_checkout, nearest, read_json
from mmseg.utils.checkpoint import misfit, require_finite_state
from mmseg.utils.tensors import RGB

from .huggingface import PREFIX, read_dual_encoder
from .state_dict import read_clip_state

logger = logging.getLogger(__name__)

BUILT_IN = Path(__file__).parent / 'miniature'  # two small CLIPs come with the code
HUBS = ('hf-hub:', 'local-dir:')
POOL_ONLY = ('visual.attnpool.positional_embedding',)  # needed by the image embedding alone
Preprocess = dict[str, RGB]


@dataclass(frozen=True)
class LoadedCLIP:
    """An open_clip model, or a DualEncoder of transformers, and its properties.

    Attributes:
        model: its module. `model.visual` is the image tower.
        name: the architecture, for its tokenizer.
        mean, std: RGB, for values in 0..1.
        source: where the weights came from, for messages.
        embed_dim: D of the space that images and texts share.
        text_cfg: open_clip's description of the text tower.
        has_text: the text tower has weights. A file may hold the image tower alone.
        can_pool: the image embedding has all its weights.
    """

    model: Any
    name: str
    mean: RGB
    std: RGB
    source: str
    embed_dim: int | None
    text_cfg: dict[str, Any]
    has_text: bool = True
    can_pool: bool = True

    @property
    def image_size(self) -> int:
        """Pixels of a side of the images that it was trained on."""
        size = self.model.visual.image_size
        return int(size if isinstance(size, int) else max(size))


def load_clip(
    model: str | Mapping[str, Any] | None,
    pretrained: str | Path | None,
    *,
    pretrain_dir: str | Path = 'pretrain',
) -> LoadedCLIP:
    """Load an open_clip model in fp32 and eval mode, with all its weights; or one of transformers.

    Args:
        model: an architecture of open_clip ('ViT-B-16-quickgelu', 'RN50', 'hf-hub:org/name'), one
            of the miniature's ('miniature-rn', 'miniature-vit'), or a JSON file or a dict with
            `embed_dim`, `vision_cfg` and `text_cfg`. None with 'hf:'.
        pretrained: a file (layouts: `read_clip_state`), a tag of open_clip ('openai',
            'laion2b_s34b_b88k'), 'miniature' for the miniature's own weights, or 'random'. Or
            'hf:google/tipsv2-b14', see `read_dual_encoder`.
        pretrain_dir: folder that is searched before the network, for the names of `fetched_names`.

    Raises:
        UserError: an unknown name or tag, weights that cannot be fetched or do not fit.
    """
    import open_clip

    if str(pretrained).startswith(PREFIX):
        return _from_transformers(model, str(pretrained))
    if model is None:
        raise UserError(
            f'pretrained={str(pretrained)!r} needs the name of its model: set model to one of '
            '`maskclip teachers`'
        )
    config, preprocess = _architecture(model)
    name = model if isinstance(model, str) else 'custom'
    if pretrained is None:
        raise UserError(
            f'no weights are named for {name}; set pretrained to a file, to a tag of '
            "open_clip such as 'openai', or to 'random'"
        )
    file = _local_file(name, str(pretrained), Path(pretrain_dir))
    if config is None or (file is None and pretrained != 'random'):
        return _from_tag(name, str(pretrained), config or {})
    missing: set[str] = set()
    if file is None:
        logger.warning('%s has RANDOM weights: its labels mean nothing', name)
        network = _build(config)
    else:
        state, by_openai = read_clip_state(file)
        known = open_clip.get_pretrained_cfg(name, str(pretrained)) or {}
        preprocess |= {key: tuple(known[key]) for key in preprocess if key in known}
        quick_gelu = config.get('quick_gelu') or by_openai or known.get('quick_gelu', False)
        network = _build(dict(config, quick_gelu=quick_gelu))
        missing = _load_strictly(network, state, f'{file} does not fit {name}')
    return LoadedCLIP(
        network,
        name,
        **preprocess,
        source=str(file or pretrained),
        embed_dim=config['embed_dim'],
        text_cfg=config['text_cfg'],
        has_text=all(key.startswith('visual.') for key in missing),
        can_pool=not missing.intersection(POOL_ONLY),
    )


def fetched_names(model: str, tag: str) -> list[str]:
    """List the names that the weights of a model and tag may have in `pretrain`."""
    stem = model.removesuffix('-quickgelu').replace('/', '-')
    archive = [f'{stem}.pt'] if tag == 'openai' else []
    return archive + [f'{stem}--{tag}{suffix}' for suffix in ('.safetensors', '.bin', '.pt')]


def _architecture(model: str | Mapping[str, Any]) -> tuple[dict[str, Any] | None, Preprocess]:
    """Find the description of a model, None for those of a hub, and its mean and std."""
    import open_clip

    preprocess = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    if isinstance(model, str):
        if model.startswith(HUBS):
            return None, preprocess
        if (BUILT_IN / f'{model}.json').is_file():
            model = str(BUILT_IN / f'{model}.json')
        elif not model.endswith('.json'):
            config = open_clip.get_model_config(model)
            if config is None:
                raise UserError(
                    f'open_clip has no model {model!r}'
                    f'{nearest(model, open_clip.list_models())}; see open_clip.list_models()'
                )
            return config, preprocess | _agreed_preprocess(model)
        description = read_json(model)
    else:
        description = dict(model)
    if lacking := {'embed_dim', 'vision_cfg', 'text_cfg'} - set(description):
        raise UserError(f'the description of a CLIP lacks {", ".join(sorted(lacking))}')
    described = description.pop('preprocess_cfg', {})
    description.pop('note', None)
    return description, preprocess | {k: tuple(described[k]) for k in preprocess if k in described}


def _agreed_preprocess(name: str) -> Preprocess:
    """Find mean and std of an architecture's known weights; {} if they do not agree."""
    import open_clip

    names = open_clip.list_pretrained_tags_by_model(name)
    tags = [open_clip.get_pretrained_cfg(name, tag) for tag in names]
    known = {(tuple(t['mean']), tuple(t['std'])) for t in tags if t.get('mean') and t.get('std')}
    if len(known) != 1 or not all(t.get('mean') for t in tags):
        return {}
    mean, std = known.pop()
    return dict(mean=mean, std=std)


def _local_file(name: str, pretrained: str, pretrain_dir: Path) -> str | None:
    """Find the file that `pretrained` means. None: it is a tag, or 'random'."""
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


def _build(config: Mapping[str, Any]) -> nn.Module:
    """Build an open_clip model without weights."""
    import open_clip

    config = dict(config, vision_cfg=dict(config['vision_cfg']), text_cfg=dict(config['text_cfg']))
    custom = config.pop('custom_text', False) or 'hf_model_name' in config['text_cfg']
    for tower, prefix in (('vision_cfg', 'timm_model'), ('text_cfg', 'hf_model')):
        if f'{prefix}_name' in config[tower]:
            config[tower][f'{prefix}_pretrained'] = False
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    network = (open_clip.CoCa if 'multimodal_cfg' in config else kind)(**config)
    return network.float().eval()


def _load_strictly(network: nn.Module, state: dict[str, Tensor], problem: str) -> set[str]:
    """Load weights; return the missing names, all of the text tower's or POOL_ONLY."""
    expected = network.state_dict()
    text = {name for name in expected if not name.startswith('visual.')}
    optional = {*POOL_ONLY} if text & set(state) else {*POOL_ONLY, *text}
    if reason := misfit(expected, state, optional):
        raise UserError(f'{problem}: {reason}; name the architecture that they are of')
    network.load_state_dict(state, strict=False)
    return set(expected) - set(state)


def _from_tag(name: str, tag: str, config: Mapping[str, Any]) -> LoadedCLIP:
    """Load by open_clip, which may use the network."""
    import open_clip

    from_hub = name.startswith(HUBS)
    cleaned = name.replace('/', '-')
    tags = [] if from_hub else open_clip.list_pretrained_tags_by_model(cleaned)
    if not from_hub and tag not in tags:
        raise UserError(
            f'{name} has no pretrained tag {tag!r}{nearest(tag, tags)}; '
            f'known: {", ".join(tags) or "none"}'
        )
    known = {} if from_hub else open_clip.get_pretrained_cfg(cleaned, tag)
    address = known.get('hf_hub', '').strip('/') or known.get('url') or name
    print(f'weights {name}:{tag}: from {address}, or its cache', file=sys.stderr, flush=True)
    file = f'pretrain/{name.removesuffix("-quickgelu")}.pt'
    cure = f'put the file at {file} or' if tag == 'openai' else 'fetch the file elsewhere and'
    problem = f'the weights {name}:{tag} could not be fetched from {address}'
    with hub_errors(problem, f'offline, {cure} set pretrained to a file'):
        network: Any = open_clip.create_model(
            name, None if from_hub else tag, force_quick_gelu=bool(known.get('quick_gelu'))
        )
    require_finite_state(network.state_dict(), f'{name}:{tag} holds', 'use other weights')
    preprocess = open_clip.get_model_preprocess_cfg(network)
    return LoadedCLIP(
        network.eval(),
        name,
        tuple(preprocess['mean']),
        tuple(preprocess['std']),
        source=f'{name}:{tag}',
        embed_dim=getattr(network.visual, 'output_dim', config.get('embed_dim')),
        text_cfg=config.get('text_cfg', {}),
    )


def _from_transformers(model: Any, source: str) -> LoadedCLIP:
    """Load a dual encoder of transformers; refuse the name of a model beside it."""
    if model is not None:
        raise UserError(
            f'pretrained={source!r} names the model too; leave out model={model!r} (model=None)'
        )
    network, (mean, std) = read_dual_encoder(source)
    vision, text = network.visual.network.config, network.text_model.config
    return LoadedCLIP(
        network,
        source,
        mean,
        std,
        source=source,
        embed_dim=getattr(network.visual.projection, 'out_features', vision.hidden_size),
        text_cfg=dict(hf_tokenizer_name=source, context_length=text.max_position_embeddings),
    )
