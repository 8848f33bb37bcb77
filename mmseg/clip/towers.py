"""CLIP image towers with one interface: ViTs (vit.py), ModifiedResNet, other networks of timm.

Every tower has `trunk` (image -> all before the last attention), `dense` (trunk -> patches in text
space, and keys) and `pool` (trunk -> CLIP's image embedding), a `stride`, and `must_pad`. `dense`
skips the attention or the mean that pools the patches, and applies the value path and the layers
behind it to each patch by itself (MaskCLIP). No tower copies a weight.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError

from .huggingface import ImageTower
from .readout import NO_GUIDANCE, PRESETS, Guidance, Readout
from .transformer import PositionRule, resize_positions, to_grid
from .vit import ClipViT, HubViT, TimmViT, ViTTower


def build_tower(
    visual: nn.Module,
    *,
    project_keys: bool = False,
    readout: Readout = PRESETS['maskclip'],
    positions: PositionRule = 'size',
) -> 'ViTTower | ResNetTower | TimmTower':
    """Wrap the `visual` of an open_clip model or a DualEncoder.

    Args:
        project_keys, readout: see `ViTTower`. Towers other than ViTs have no such choice.
        positions: see `ClipViT`. timm's and transformers' towers have their own rule.

    Raises:
        UserError: an unsupported tower, or options that it has not.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        return ClipViT(visual, project_keys=project_keys, readout=readout, positions=positions)
    trunk = visual.network if isinstance(visual, ImageTower) else getattr(visual, 'trunk', visual)
    name = type(trunk).__name__
    if positions != 'size':
        raise UserError(
            f"the image tower {name} is none of open_clip's ViTs and has no choice of positions; "
            "set positions='size'"
        )
    if isinstance(visual, ImageTower):
        return HubViT(visual, project_keys=project_keys, readout=readout)
    if isinstance(visual, TimmModel) and name in ('VisionTransformer', 'Eva'):
        return TimmViT(visual, project_keys=project_keys, readout=readout)
    if readout != PRESETS['maskclip']:
        pool = 'an attention pool' if isinstance(visual, ModifiedResNet) else 'the pool of its map'
        raise UserError(
            f'the image tower {name} ends in {pool} and has no attention blocks to choose a '
            "readout for; use a ViT, or readout='maskclip'"
        )
    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual)
    if isinstance(visual, TimmModel):
        return TimmTower(visual)
    raise UserError(f'the image tower {name} is not supported; use one of open_clip.list_models()')


class ResNetTower(nn.Module):
    """open_clip's ModifiedResNet. `dense` uses its attention pool without positions."""

    must_pad = False
    stride = 32

    def __init__(self, visual: Any, /) -> None:
        super().__init__()
        self.visual = visual

    def trunk(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) normalised -> (N, C, H // 32, W // 32)"""
        visual = self.visual
        features = visual.stem(image)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            features = layer(features)
        return features

    def dense(self, trunk: Tensor, guidance: Guidance = NO_GUIDANCE) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> (N, D, h, w), (N, h*w, C)"""
        pool, patches = self.visual.attnpool, trunk.flatten(2).transpose(1, 2)
        values = pool.c_proj(pool.v_proj(patches))
        return to_grid(values, (trunk.shape[2], trunk.shape[3])), pool.k_proj(patches)

    def pool(self, trunk: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, D): the mean attends to mean and patches, positions resized"""
        pool, patches = self.visual.attnpool, trunk.flatten(2).transpose(1, 2)
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        grid = (trunk.shape[2], trunk.shape[3])
        tokens = tokens + resize_positions(pool.positional_embedding, grid)
        parts = pool.q_proj(tokens[:, :1]), pool.k_proj(tokens), pool.v_proj(tokens)
        query, keys, values = (x.unflatten(2, (pool.num_heads, -1)).transpose(1, 2) for x in parts)
        pooled = F.scaled_dot_product_attention(query, keys, values)
        return pool.c_proj(pooled.transpose(1, 2).flatten(1))


class TimmTower(nn.Module):
    """A timm network that ends in a map, pooled by its mean (ConvNeXt, FastViT, Swin) or attention.

    Raises:
        UserError: a network without such a map.
    """

    must_pad = True

    def __init__(self, visual: Any, /) -> None:
        from timm.layers import AttentionPool2d, RotAttentionPool2d

        super().__init__()
        trunk, pool = visual.trunk, getattr(visual.head, 'pool', None)
        is_vit = hasattr(trunk, 'patch_embed') and hasattr(trunk, 'blocks')
        if is_vit or not hasattr(trunk, 'feature_info'):
            raise UserError(
                f'the timm tower {type(trunk).__name__} has no map of places before its pool, and '
                'its attention is more than q, k and v (such as biases for the positions of one '
                'grid), so no value path can be read out of it; use another ViT or a ConvNeXt'
            )
        self.visual: Any = visual
        self.stride: int = trunk.feature_info[-1]['reduction']
        self.attention_pool: Any = pool
        self.pools_by_attention = isinstance(pool, (AttentionPool2d, RotAttentionPool2d))
        self.channels_last = getattr(trunk, 'output_fmt', 'NCHW') == 'NHWC'
        if hasattr(trunk, 'patch_embed') and hasattr(trunk.patch_embed, 'strict_img_size'):
            trunk.patch_embed.strict_img_size = False
            for layer in trunk.modules():  # of Swin: the masks of shifted windows fit any map
                if hasattr(layer, 'dynamic_mask'):
                    layer.dynamic_mask = True

    def trunk(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) normalised -> (N, C, h, w), or (N, h, w, C) where timm has it so"""
        return self.visual.trunk.forward_features(image)

    def dense(self, trunk: Tensor, guidance: Guidance = NO_GUIDANCE) -> tuple[Tensor, Tensor]:
        """trunk -> (N, D, h, w), (N, h*w, C): keys of the attention pool, or the map itself"""
        features = trunk if self.channels_last else trunk.permute(0, 2, 3, 1)
        grid, patches = (features.shape[1], features.shape[2]), features.flatten(1, 2)
        if self.pools_by_attention:
            _, keys, values = self.attention_pool.qkv(patches).chunk(3, dim=-1)
            values = self.attention_pool.proj(values)
            for name, layer in self.visual.head.named_children():
                values = values if name == 'pool' else layer(values)
            return to_grid(values, grid), keys
        places = patches.flatten(0, 1)[:, None, None]  # each is an image of one place
        values = self.pool(places if self.channels_last else places.permute(0, 3, 1, 2))
        return to_grid(values.unflatten(0, patches.shape[:2]), grid), patches

    def pool(self, trunk: Tensor) -> Tensor:
        """trunk -> (N, D): the heads of timm and open_clip"""
        return self.visual.head(self.visual.trunk.forward_head(trunk))
