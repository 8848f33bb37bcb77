"""List the image towers of open_clip, and TIPSv2's: what they are and can, where their weights are.

    maskclip teachers [WORDS ...] [--markdown | --speeds]

WORDS keep the models whose names contain one of them, such as PE-Core or SigLIP2. --markdown
writes docs/teachers.md, and --speeds measures one model of each family for it (ten minutes).
Parameters are those of the image tower. Nothing is allocated or fetched otherwise.
"""

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import in_checkout, nearest, read_json, write_text

DOCS = Path(__file__).resolve().parents[1] / 'docs'
DOCUMENT, SPEEDS = DOCS / 'teachers.md', DOCS / 'benchmarks' / 'teachers.json'
SIDE = 520  # pixels of the photo whose operations are counted
CONFIG = 'maskclip/maskclip_vit16_clip_numerics_520x520_pascal_context_59.py'
MEASURED = (  # one of each family
    *('ViT-B-16', 'ViT-L-14', 'RN50', 'convnext_base_w', 'EVA02-B-16', 'PE-Core-B-16'),
    *(
        'MobileCLIP2-S0',
        'MobileCLIP-B',
        'ViTamin-B',
        'coca_ViT-B-32',
        'swin_base_patch4_window7_224',
    ),
)
HEAD = """# Teachers

Written by `maskclip teachers --markdown` ({versions}). Any of these is a teacher, a
prior encoder or both: `model.backbone.model` names it, and `pretrained` one of its tags or a file. {built} of
{models} build, with {tags} sets of weights. Parameters are those of the image tower, in millions. Size is that of its
training; photos of any other size and shape work too. Weights are looked for in `pretrain/` before the network:
`maskclip teachers` says which are there. GFLOP are those of the dense features of a photo of 520 x 520 or the next multiple
of the patch (a multiplication and an addition are two); photos/s those of MaskCLIP by `tools/benchmark.py`, one photo of 500 x 375
inside 520 x 520 at a time, fp32, random weights, 59 classes, on {speed}. Licences are as timm states them; the hub's page of the weights decides.

A tag that begins with `hf:` is a dual encoder of transformers (`pip install 'maskclip-plus[transformers]'`), whose towers,
tokenizer, mean and std it has. Set `pretrained='hf:google/tipsv2-b14'` and leave out `model`; in a config that names one:
`--cfg-options model.backbone.pretrained=hf:google/tipsv2-b14 model.backbone.model=None`. A folder that `save_pretrained` wrote
works too: `hf:FOLDER`. Beside TIPSv2 these are CLIP, MetaCLIP 2, SigLIP and SigLIP 2 in transformers' layout, with weights as
safetensors. TIPSv2's authors segment by MaskCLIP's value path, which is the default here; `readout='clip'` takes the patch
tokens as they leave the network.

Labels can be read out of every tower (MaskCLIP). Each place passes by itself through the layers that pool the places:

| pool | MaskCLIP skips | each place passes through |
|---|---|---|
| class token (OpenAI, LAION, EVA, MobileCLIP-B, TIPSv2) | the attention of the last block | its value and output projection, MLP, norm, projection |
| attention (ResNet, SigLIP, PE-Core, CoCa) | the attention of the pool | its value and output projection, MLP if any, projection |
| mean (ConvNeXt, FastViT, ViTamin, Swin, CLIPA) | the mean | norm, projection |

`tests/clip/test_towers.py` builds all of open_clip's, shrunken: the pooled embedding equals that of `encode_image` to 1e-5, and
where the mean pools, it is the mean of the features before their norm and projection. **readouts**: the presets of
[readouts.md](readouts.md) change the last block, before the pool. **proxy**: the same network of timm can be the `proxy` of
ProxyCLIP, like DINOv2, DINOv3, PE-spatial and RADIO.

Not built: {refused}.

| model | image tower, pool | M | GFLOP | photos/s | patch | size | can | licence | tags |
|---|---|---|---|---|---|---|---|---|---|
"""  # noqa: E501
NETWORKS = dict(
    VisionTransformer='ViT',
    VisionTransformerRelPos='ViT (relative)',
    Eva='ViT',
    ModifiedResNet='ResNet',
    FastVit='FastViT',
    SwinTransformer='Swin',
)
TIPS = {  # its image towers (arXiv 2604.12012) beside B/14, which is transformers' default
    'b14': {},
    'l14': dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16),
    'so400m14': dict(
        hidden_size=1152, num_hidden_layers=27, num_attention_heads=16, mlp_ratio=4304 / 1152
    ),
    'g14': dict(
        hidden_size=1536, num_hidden_layers=40, num_attention_heads=24, use_swiglu_ffn=True
    ),
}


class Teacher(NamedTuple):
    """A model of open_clip, or of transformers.

    Attributes:
        name: of the model.
        family: network and pool, 'ViT (rotary), class token'.
        millions: parameters of the image tower.
        stride: pixels of a patch; 0 if the tower is not supported.
        size: pixels of a side that it was trained on.
        can: uses beside dense labels.
        reason: why it is not supported, or ''.
        licence: of the weights, as far as timm knows them.
        tags: names of its weights.
        here: those of them that are in `pretrain`, or in the hub's cache.
    """

    name: str
    family: str
    millions: float
    stride: int
    size: int
    can: tuple[str, ...]
    reason: str
    licence: str
    tags: tuple[str, ...]
    here: tuple[str, ...]


Tower = tuple[str, float, int, int, tuple[str, ...], str]  # from family to reason


def teachers(words: list[str]) -> list[Teacher]:
    """Describe the models whose names contain one of some words, or all.

    Raises:
        UserError: no such model.
    """
    import open_clip

    models = [*open_clip.list_models(), *(f'TIPSv2-{size}' for size in TIPS)]
    parts = [word.lower() for word in words] or ['']
    chosen = [name for name in models if any(part in name.lower() for part in parts)]
    if not chosen:
        raise UserError(f'no teacher is named like {" or ".join(words)}{nearest(words[0], models)}')
    return [teacher(name) for name in chosen]


def teacher(name: str) -> Teacher:
    """Describe a model of open_clip, or 'TIPSv2-b14'."""
    import open_clip

    from mmseg.clip import fetched_names

    if name.startswith('TIPSv2-'):
        return tips_teacher(name)
    config = open_clip.get_model_config(name)
    tags = tuple(open_clip.list_pretrained_tags_by_model(name))
    here = tuple(
        tag
        for tag in tags
        if any(Path(in_checkout(f'pretrain/{f}')).is_file() for f in fetched_names(name, tag))
    )
    licence = ', '.join(dict.fromkeys(licence_of(name, tag) for tag in tags)) or 'no weights'
    tower = image_tower(json.dumps(config['vision_cfg']), config['embed_dim'])
    return Teacher(name, *tower, licence, tags, here)


def tips_teacher(name: str) -> Teacher:
    """Describe a TIPSv2 of transformers."""
    from huggingface_hub import try_to_load_from_cache

    repository = f'google/{name.lower()}'
    tags = (f'hf:{repository}',)
    is_here = isinstance(try_to_load_from_cache(repository, 'model.safetensors'), str)
    family = 'ViT, class token'
    try:
        tower = describe_tower(visual_of(name), family)
    except UserError as error:  # transformers is not installed
        tower = family, 0.0, 0, 0, (), str(error)
    return Teacher(name, *tower, 'apache-2.0', tags, tags if is_here else ())


def visual_of(name: str) -> Any:
    """Build the image tower of a model of open_clip, or of 'TIPSv2-b14', without memory.

    Raises:
        UserError: transformers is not installed.
    """
    import open_clip
    import torch

    from mmseg.clip.huggingface import ImageTower, import_transformers

    if not name.startswith('TIPSv2-'):
        config = open_clip.get_model_config(name)
        return clip_visual(json.dumps(config['vision_cfg']), config['embed_dim'])
    transformers, settings = import_transformers(), TIPS[name.removeprefix('TIPSv2-')]
    with torch.device('meta'):
        network = transformers.Tipsv2VisionModel(transformers.Tipsv2VisionConfig(**settings))
        return ImageTower(SimpleNamespace(vision_model=network))


def clip_visual(vision: str, dim: int) -> Any:
    """Build an image tower of open_clip, of its settings as JSON, without memory."""
    import torch
    from open_clip.model import _build_vision_tower

    with torch.device('meta'):
        return _build_vision_tower(dim, json.loads(vision))


def gflop_of(name: str) -> float:
    """Count the 10^9 operations that the dense features of a photo take."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mmseg.clip.towers import build_tower

    with torch.device('meta'):
        tower = build_tower(visual_of(name)).eval().requires_grad_(False)
        side = tower.stride * math.ceil(SIDE / tower.stride)
        with FlopCounterMode(display=False) as counter:
            tower.dense(tower.trunk(torch.empty(1, 3, side, side)))
    return counter.get_total_flops() / 1e9


@functools.cache
def image_tower(vision: str, dim: int) -> Tower:
    """Describe an image tower of open_clip, of its settings as JSON."""
    visual = clip_visual(vision, dim)
    return describe_tower(visual, f'{network_of(visual)}, {pool_of(visual)}')


def describe_tower(visual: Any, family: str) -> Tower:
    """Describe an image tower, and say why if it is not supported."""
    from mmseg.clip.towers import build_tower
    from mmseg.clip.vit import TimmViT, ViTTower

    millions = sum(p.numel() for p in visual.parameters()) / 1e6
    size = visual.image_size if isinstance(visual.image_size, int) else max(visual.image_size)
    try:
        tower = build_tower(visual)
    except UserError as error:
        return family, millions, 0, size, (), str(error)
    can = ['prior']
    can += ['readouts'] if isinstance(tower, ViTTower) else []
    can += ['proxy'] if isinstance(tower, TimmViT) else []
    return family, millions, tower.stride, size, tuple(can), ''


def network_of(visual: Any) -> str:
    """Name the network: 'ViT (rotary)' with such positions, 'ViT (stem)' behind convolutions."""
    network = getattr(visual, 'trunk', visual)
    name = NETWORKS.get(type(network).__name__, type(network).__name__)
    if getattr(network, 'rope', None) is not None:
        return f'{name} (rotary)'
    return f'{name} (stem)' if hasattr(getattr(network, 'patch_embed', None), 'backbone') else name


def pool_of(visual: Any) -> str:
    """Name what pools the places: the class token, an attention or the mean."""
    network = getattr(visual, 'trunk', visual)
    if hasattr(visual, 'attnpool') or getattr(network, 'attn_pool', None) is not None:
        return 'attention'
    by_token = 'tok' in str(getattr(network, 'pool_type', getattr(network, 'global_pool', '')))
    return 'class token' if by_token else 'mean'


def licence_of(name: str, tag: str) -> str:
    """Name the licence of weights, if timm knows it."""
    import open_clip

    hub = open_clip.get_pretrained_cfg(name, tag).get('hf_hub', '').strip('/')
    return licences().get(hub.lower(), 'see the hub')


@functools.cache
def licences() -> dict[str, str]:
    """{id on the hub: licence} of timm's weights"""
    import timm

    configs = (timm.get_pretrained_cfg(name) for name in timm.list_pretrained())
    return {
        config.hf_hub_id.lower(): config.license
        for config in configs
        if config and config.hf_hub_id and config.license
    }


def rows(found: list[Teacher]) -> Iterator[tuple[str, ...]]:
    """Write the cells of each teacher: (name, family, ..., tags)."""
    for t in found:
        tags = [f'{tag} (here)' if tag in t.here else tag for tag in t.tags]
        can = ', '.join(t.can) if t.stride else 'not built'
        patch = str(t.stride or '')
        cells = (t.name, t.family, f'{t.millions:.0f}', patch, str(t.size), can, t.licence)
        yield (*cells, ', '.join(tags))


def document(found: list[Teacher]) -> str:
    """Write docs/teachers.md, the same wherever it is written: without what is in `pretrain`."""
    from importlib.metadata import version

    speeds = read_json(SPEEDS) if SPEEDS.is_file() else {}
    names = ('open_clip_torch', 'timm', 'transformers')
    head = HEAD.format(
        versions=', '.join(f'{name.removesuffix("_torch")} {version(name)}' for name in names),
        built=sum(bool(t.stride) for t in found),
        models=len(found),
        speed=speeds.get('when', 'no machine yet'),
        tags=sum(len(t.tags) for t in found if t.stride),
        refused='; '.join(f'`{t.name}` ({t.reason})' for t in found if t.reason) or 'none',
    )
    lines = []
    for t, row in zip(found, rows([t._replace(here=()) for t in found])):
        name, family, millions, *others = row
        gflop = f'{gflop_of(name):.0f}' if t.stride else ''
        speed = f'{speeds[name]:.2f}' if name in speeds else ''
        cells = (family, millions, gflop, speed, *others)
        lines.append(f'| `{name}` | {" | ".join(cells)} |')
    return head + '\n'.join(lines) + '\n'


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('words', nargs='*', metavar='WORDS')
    parser.add_argument('--markdown', action='store_true')
    parser.add_argument('--speeds', action='store_true')
    args = parser.parse_args()
    if args.speeds:
        from _leaderboard.measure import measure_speeds

        options = {n: (CONFIG, [f'model.backbone.model={n}']) for n in args.words or MEASURED}
        measure_speeds(SPEEDS, options)
        return
    if args.markdown:
        if args.words:
            raise UserError('--markdown writes the page of all models; leave out WORDS')
        write_text(DOCUMENT, document(teachers([])))
        print(DOCUMENT)
        return
    head = ('model', 'family', 'M', 'patch', 'size', 'can', 'licence', 'tags')
    table = [head, *rows(teachers(args.words))]
    widths = [max(len(row[i]) for row in table) for i in range(len(head) - 1)]
    for row in table:
        print('  '.join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[-1]]).rstrip())


if __name__ == '__main__':
    run_command(main)
