"""Every image tower of open_clip, shrunken: pooled as open_clip does, dense at any size."""

import dataclasses
import functools
import json

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from test_readouts import tiny_proxy
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vitamin import VitCfg, VitConvCfg
from torch.nn import LayerNorm
from torch.testing import assert_close

from mmseg.clip import CLIPDenseExtractor, load_proxy
from mmseg.clip.blocks import parts_of
from mmseg.clip.readout import PRESETS, read_last_block
from mmseg.clip.towers import TimmTower
from mmseg.clip.transformer import Trunk
from mmseg.clip.vit import ViTTower, accept_any_size
from mmseg.errors import UserError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
SMALL = dict(depth=2, embed_dim=64, num_heads=4)
CONVOLUTIONS = VitCfg((16, 32, 64), (1, 1, 1), 16, VitConvCfg(norm_layer='layernorm2d'), '1d')
SHRUNKEN = {  # by the beginning of timm's name: arguments of timm.create_model
    'convnext': dict(depths=(1, 1, 1, 1), dims=(16, 32, 48, 64)),
    'fastvit_mci3': dict(layers=(1,) * 5, embed_dims=(16, 32, 64, 128, 256)),
    'fastvit_mci4': dict(layers=(1,) * 5, embed_dims=(16, 32, 64, 128, 256)),
    'fastvit': dict(layers=(1,) * 4, embed_dims=(16, 32, 64, 128)),
    'swin': dict(depths=(2, 1, 1, 1), embed_dim=16, num_heads=(1, 2, 4, 8)),
    'vit_base_mci': dict(depth=1),
    'vitamin': dict(SMALL, embed_cfg=CONVOLUTIONS),
    'vit': SMALL,
    'eva': SMALL,
}


def shrunken(name):
    """An open_clip model's name -> the description of its image tower, small, as JSON"""
    config = open_clip.get_model_config(name)
    vision = dict(config['vision_cfg'])
    if 'timm_model_name' not in vision:
        deep = isinstance(vision.get('layers'), list)
        vision |= dict(layers=[1, 1, 1, 1] if deep else 2, width=16 if deep else 64)
        vision |= dict(head_width=32, attn_pooler_queries=4)
    return json.dumps([vision, config.get('quick_gelu', False)], sort_keys=True)


@functools.cache
def groups():
    """{description: names of the models that have such a tower}"""
    found = {}
    for name in open_clip.list_models():
        found.setdefault(shrunken(name), []).append(name)
    return found


def tower_of(description, monkeypatch):
    """Build the tower of a description, with random weights that differ from their defaults."""
    create = timm.create_model

    def small(name, **options):
        key = next(key for key in SHRUNKEN if name.startswith(key))
        return create(name, **SHRUNKEN[key], **options)

    monkeypatch.setattr('open_clip.timm_model.timm.create_model', small)
    torch.manual_seed(0)
    vision, quick_gelu = json.loads(description)
    visual = _build_vision_tower(32, vision, quick_gelu).eval()
    for parameter in visual.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return visual


def pixels(*size):
    return torch.randint(0, 256, (1, 3, *size), generator=torch.manual_seed(2), dtype=torch.uint8)


def normalised(view):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (view / 255 - mean) / std


def pooled_by(visual, view):
    """open_clip's own image embedding; CoCa's towers return their tokens too"""
    found = visual(normalised(view))
    return F.normalize(found[0] if isinstance(found, tuple) else found, dim=-1)


@pytest.mark.parametrize('description', groups(), ids=[names[0] for names in groups().values()])
@torch.no_grad()
def test_every_tower_of_open_clip(description, monkeypatch):
    visual = tower_of(description, monkeypatch)
    if 'relpos' in description:  # the only one, and open_clip has no weights for it
        with pytest.raises(UserError, match='RelPos has no map .* more than q, k and v'):
            CLIPDenseExtractor(visual, mean=MEAN, std=STD)
        return
    native = pixels(*open_clip.transform.to_2tuple(visual.image_size))
    expected = pooled_by(visual, native)
    extractor = CLIPDenseExtractor(visual, mean=MEAN, std=STD)
    assert_close(extractor.embed(native), expected, atol=1e-5, rtol=0)
    check_mean(extractor.tower, extractor.trunk(native))
    stride = extractor.stride
    for height, width in ((3 * stride, 3 * stride), (stride + 1, 3 * stride)):
        features, embedding = extractor.forward_with_embedding(pixels(height, width))
        h, w = -(-height // stride), -(-width // stride)
        assert features.patches.shape == (1, expected.shape[1], h, w)
        assert features.keys.shape[:2] == (1, h * w)
        assert features.patches.isfinite().all() and embedding.shape == expected.shape
        assert features.patches.flatten(2).std(dim=2).mean() > 1e-3  # places differ


def check_mean(tower, trunk):
    """Where the mean pools, it is that of the features which `dense` reads, before their head."""
    if isinstance(tower, TimmTower) and not tower.pools_by_attention:
        mean = trunk.mean((1, 2) if tower.channels_last else (2, 3), keepdim=True)
        assert_close(tower.pool(mean), tower.pool(trunk), atol=1e-5, rtol=0)
    if not isinstance(tower, ViTTower):
        return
    network = getattr(tower.visual, 'trunk', tower.visual)
    if network.attn_pool is None and 'avg' in (
        getattr(network, 'global_pool', ''),
        getattr(network, 'pool_type', ''),
    ):
        patches = read_last_block(tower.blocks, trunk, tower.readout)
        found = tower.head(patches.mean(dim=1, keepdim=True))[:, 0]
        if isinstance(getattr(network, 'norm', None), LayerNorm):  # before the mean
            found = tower.head(patches).mean(dim=1)
        assert_close(found, tower.pool(trunk), atol=1e-5, rtol=0)


def test_the_sweep_is_over_all_models():
    assert sorted(name for names in groups().values() for name in names) == sorted(
        open_clip.list_models()
    )


# Readouts on blocks of other libraries

BLOCKS = {
    'SigLIP': lambda: VisionTransformer(class_token=False, **TINY_VIT),
    'LayerScale and norms of q and k': lambda: VisionTransformer(
        init_values=0.5, qk_norm=True, reg_tokens=2, **TINY_VIT
    ),
    'EVA-01': lambda: Eva(**TINY_VIT),
    'EVA-02': lambda: Eva(
        **TINY_VIT,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
    ),
    'EVA-02 with the norm behind': lambda: Eva(use_post_norm=True, **TINY_VIT),
    'PE': lambda: Eva(
        **TINY_VIT,
        attn_type='rope',
        use_rot_pos_emb=True,
        rope_grid_offset=1.0,
        rope_grid_indexing='xy',
    ),
    'DINOv3': lambda: Eva(
        **TINY_VIT,
        qkv_bias=False,
        init_values=0.5,
        rope_type='dinov3',
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
    ),
}
TINY_VIT = dict(
    img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0, global_pool=''
)


@pytest.fixture(params=BLOCKS)
def network(request):
    torch.manual_seed(0)
    made = BLOCKS[request.param]().eval()
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def trunk_of(network, grid=(3, 5)):
    """Random tokens before the last block, with the network's rotary positions"""
    rope = getattr(network, 'rope', None)
    if rope is not None:
        accept_any_size(network)
        rope = rope.get_embed(list(grid))
    prefix = network.num_prefix_tokens
    tokens = torch.randn(2, prefix + grid[0] * grid[1], 32, generator=torch.manual_seed(1))
    return Trunk(tokens, grid, prefix=prefix, rope=rope)


@torch.no_grad()
def test_the_readout_clip_is_the_block_itself(network):
    trunk, last = trunk_of(network), network.blocks[-1]
    options = {} if trunk.rope is None else dict(rope=trunk.rope)
    expected = last(trunk.tokens, **options)
    found = read_last_block(network.blocks, trunk, PRESETS['clip'])
    assert_close(found, expected[:, trunk.prefix :], atol=1e-5, rtol=1e-5)
    assert_close(parts_of(last, trunk.rope).run(trunk.tokens), expected, atol=1e-5, rtol=1e-5)
    again, weights = parts_of(last, trunk.rope).run_with_attention(trunk.tokens)
    assert_close(again, expected, atol=1e-5, rtol=1e-5)
    assert_close(weights.sum(dim=3), torch.ones(weights.shape[:3]))


@torch.no_grad()
def test_the_readout_maskclip_is_the_block_on_each_patch_alone(network):
    """Attention of one token to itself is its value, wherever the patch may be."""
    trunk, last = trunk_of(network), network.blocks[-1]
    alone = last(trunk.patches.reshape(-1, 1, 32)).reshape(trunk.patches.shape)
    found = read_last_block(network.blocks, trunk, PRESETS['maskclip'])
    assert_close(found, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rotary_positions_reach_every_pair():
    """k-k of the rotated keys by hand."""
    torch.manual_seed(0)
    network = BLOCKS['PE']().eval()
    trunk, attn = trunk_of(network), network.blocks[-1].attn
    readout = dataclasses.replace(PRESETS['clip'], terms=('k-k',), residual=False, mlp=False)
    normed = network.blocks[-1].norm1(trunk.tokens)
    _, keys, values = attn.qkv(normed).unflatten(2, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    rotated = apply_rot_embed_cat(keys[:, :, 1:], trunk.rope)
    keys = torch.cat([keys[:, :, :1], rotated], dim=2)
    mixed = (keys @ keys.mT / 4).softmax(dim=-1) @ values
    expected = attn.proj(mixed.transpose(1, 2).flatten(2))[:, 1:]
    found = read_last_block(network.blocks, trunk, readout)
    assert_close(found, expected, atol=1e-5, rtol=1e-5)


# Pools

SIGLIP, PE_CORE = 'ViT-B-16-SigLIP2', 'PE-Core-B-16'


@pytest.mark.parametrize('name', [SIGLIP, PE_CORE])
@torch.no_grad()
def test_dense_is_the_value_path_of_the_attention_pool(name, monkeypatch):
    visual = tower_of(shrunken(name), monkeypatch)
    extractor = CLIPDenseExtractor(visual, mean=MEAN, std=STD)
    view, network = pixels(224, 224), visual.trunk
    tokens = network.forward_features(normalised(view))[:, network.num_prefix_tokens :]
    pool = network.attn_pool
    keys, values = pool.kv(tokens).chunk(2, dim=-1)
    values = pool.proj(values)
    values = visual.head(network.head(network.fc_norm(values + pool.mlp(pool.norm(values)))))
    found = extractor(view)
    assert_close(found.patches.flatten(2).mT, values, atol=1e-4, rtol=1e-4)
    assert_close(found.keys, keys, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_mean_that_leaves_the_class_token_out():
    """Each patch passes through the pool by itself, though the pool drops the first token."""
    torch.manual_seed(0)
    visual = TimmModel('vit_tiny_patch16_224', 32, pool='avg').eval()
    tower = CLIPDenseExtractor(visual, mean=MEAN, std=STD).tower
    trunk = tower.trunk(normalised(pixels(32, 48)))
    mean = tower.dense(trunk)[0].mean(dim=(2, 3))  # norm, mean and a linear layer
    assert_close(mean, tower.pool(trunk), atol=1e-5, rtol=0)


@torch.no_grad()
def test_dense_of_coca_is_the_value_path_of_its_pool(monkeypatch):
    """With patches that are all alike, every query of the pool finds their common value."""
    visual = tower_of(shrunken('coca_ViT-B-32'), monkeypatch)
    tower = CLIPDenseExtractor(visual, mean=MEAN, std=STD).tower
    alike = torch.randn(1, 1, 64).expand(1, 6, 64)
    expected = visual._pool(alike)[0] @ visual.proj
    assert_close(tower.head(alike)[:, 3], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('preset', PRESETS)
@torch.no_grad()
def test_presets_on_a_tower_with_rotary_positions_and_a_pool(preset, monkeypatch):
    visual, readout = tower_of(shrunken(PE_CORE), monkeypatch), PRESETS[preset]
    proxy = tiny_proxy() if 'proxy' in readout.terms else None
    extractor = CLIPDenseExtractor(visual, mean=MEAN, std=STD, readout=readout, proxy=proxy)
    image = torch.cat([pixels(40, 70), pixels(40, 70).flip(3)])
    both, first = (extractor(part, lambda p: p[:, :3] / 50).patches for part in (image, image[:1]))
    assert both.isfinite().all() and both.shape[2:] == (3 * extractor.parts, 5 * extractor.parts)
    assert_close(both[:1], first, atol=1e-4, rtol=1e-4)
    plain = CLIPDenseExtractor(visual, mean=MEAN, std=STD)(image).patches
    same = preset in ('maskclip', 'clip')  # the blocks stay whole, and the pool is skipped
    assert same == (plain.shape == both.shape and torch.allclose(plain, both, atol=1e-4))


def test_a_class_token_that_is_not_there(monkeypatch):
    visual = tower_of(shrunken(SIGLIP), monkeypatch)
    with pytest.raises(UserError, match='has none; set readout.cls_weight=0'):
        CLIPDenseExtractor(visual, mean=MEAN, std=STD, readout=PRESETS['scclip'])
    readout = dataclasses.replace(PRESETS['scclip'], cls_weight=0.0)
    with torch.no_grad():
        found = CLIPDenseExtractor(visual, mean=MEAN, std=STD, readout=readout)(pixels(32, 48))
    assert found.patches.isfinite().all()


@pytest.mark.parametrize(
    'name, options, message',
    [
        ('convnext_base', dict(readout=PRESETS['sclip']), 'ConvNeXt ends in the pool of its map'),
        (SIGLIP, dict(positions='factor'), "no choice of positions; set positions='size'"),
    ],
)
def test_options_that_a_tower_has_not(name, options, message, monkeypatch):
    visual = tower_of(shrunken(name), monkeypatch)
    with pytest.raises(UserError, match=message):
        CLIPDenseExtractor(visual, mean=MEAN, std=STD, **options)


# Proxies

PROXIES = {  # timm's name: its tokens before the patches
    'vit_small_patch14_dinov2': 1,
    'vit_small_patch14_reg4_dinov2': 5,
    'vit_small_patch16_dinov3': 5,
    'vit_pe_spatial_tiny_patch16_512': 1,
    'vit_base_patch16_radio_v3': 8,
    'vit_base_mci_224': 1,
    'vit_base_patch14_reg1_tipsv2': 2,
}


@pytest.mark.parametrize('name', PROXIES)
@torch.no_grad()
def test_proxies_by_name_are_timms_own(name, monkeypatch):
    create = timm.create_model
    options = dict(depth=1) if 'mci' in name else dict(SMALL, img_size=112)
    monkeypatch.setattr(timm, 'create_model', functools.partial(create, **options))
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    torch.manual_seed(0)
    proxy = load_proxy(name, 'random', mean=MEAN, std=STD)
    view = pixels(*network.patch_embed.img_size)
    grid = network.patch_embed.grid_size
    expected = network.forward_features(normalised(view))[:, PROXIES[name] :]
    assert expected.shape[1] == grid[0] * grid[1]
    assert_close(proxy.patches(view, grid), expected, atol=1e-4, rtol=1e-4)
    found = proxy(pixels(30, 50), (3, 5))
    assert found.shape == (1, 15, 15) and found.isfinite().all()


def test_what_a_proxy_with_rotary_positions_has_not(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', functools.partial(create, **SMALL))
    with pytest.raises(UserError, match="set backbone.proxy.positions='size'"):
        load_proxy('vit_small_patch16_dinov3', 'random', positions='factor')
    with pytest.raises(UserError, match='proxy Eva cannot be left out one by one; use a plain ViT'):
        load_proxy('vit_small_patch16_dinov3', 'random').embed(pixels(32, 32), (2, 2))


def test_a_network_whose_stages_are_called_blocks_ends_in_a_map():
    """EfficientNet: `blocks` alone do not make a ViT."""
    torch.manual_seed(0)
    visual = TimmModel('tf_efficientnet_lite0', embed_dim=32, pool='abs_attn', proj='').eval()
    tower, image = TimmTower(visual), torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        trunk = tower.trunk(image)
        assert_close(tower.pool(trunk), visual(image))
        assert tower.dense(trunk)[0].shape == (1, 32, 7, 7)
