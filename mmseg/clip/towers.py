"""CLIP image towers with one interface: ViT, ModifiedResNet, timm's.

Every tower has `trunk` (image -> all before the last attention), `dense` (trunk -> patches in text
space, and keys) and `pool` (trunk -> CLIP's image embedding), a `stride`, and `must_pad`. `dense`
applies the value path of the last attention to each patch by itself (MaskCLIP). No tower copies a
weight.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError

from .readout import NO_GUIDANCE, PRESETS, Guidance, Readout
from .transformer import PositionRule, resize_positions, to_grid
from .vit import ViTTower


def build_tower(
    visual: nn.Module,
    *,
    project_keys: bool = False,
    readout: Readout = PRESETS['maskclip'],
    positions: PositionRule = 'size',
) -> 'ViTTower | ResNetTower | TimmTower':
    """Wrap the `visual` of an open_clip model.

    Args:
        project_keys, readout, positions: see `ViTTower`. Other towers have no such choice.

    Raises:
        UserError: an unsupported tower, or options of ViTs for another one.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        return ViTTower(visual, project_keys=project_keys, readout=readout, positions=positions)
    if readout != PRESETS['maskclip'] or positions != 'size':
        raise UserError(
            f'the image tower {type(getattr(visual, "trunk", visual)).__name__} ends in an '
            'attention pool and has no attention blocks to choose a readout or positions for; '
            "use a CLIP ViT, or readout='maskclip' and positions='size'"
        )
    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual)
    if isinstance(visual, TimmModel):
        return TimmTower(visual)
    raise UserError(
        f'the image tower {type(visual).__name__} is not supported; '
        'use an open_clip ViT, ModifiedResNet or timm tower with an attention pool'
    )


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
        query, keys, values = (
            projection(x).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
            for projection, x in (
                (pool.q_proj, tokens[:, :1]),
                (pool.k_proj, tokens),
                (pool.v_proj, tokens),
            )
        )
        pooled = F.scaled_dot_product_attention(query, keys, values)
        return pool.c_proj(pooled.transpose(1, 2).flatten(1))


class TimmTower(nn.Module):
    """A timm trunk that ends in an attention pool: a 2-D one (CLIP), or a latent one (SigLIP).

    Raises:
        UserError: a trunk without an attention pool, or of a fixed image size.
    """

    must_pad = True

    def __init__(self, visual: Any, /) -> None:
        from timm.layers import AttentionPool2d, AttentionPoolLatent, RotAttentionPool2d

        super().__init__()
        trunk = visual.trunk
        pool: Any = getattr(visual.head, 'pool', None) or getattr(trunk, 'attn_pool', None)
        self.visual: Any = visual
        self.attention_pool: Any = pool
        self.is_latent = isinstance(pool, AttentionPoolLatent)
        if self.is_latent:
            _accept_any_size(trunk)
            self.stride: int = trunk.patch_embed.patch_size[0]
        elif isinstance(pool, (AttentionPool2d, RotAttentionPool2d)):
            self.stride = trunk.feature_info[-1]['reduction']
        else:
            raise UserError(
                f'the timm tower {type(trunk).__name__} has no attention pool, so no '
                'value path to read dense features from; use one with timm_pool abs_attn, '
                'rot_attn or map'
            )

    def trunk(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(N, 3, H, W) normalised -> (N, C, h, w) or (N, prefix + h*w, C), and (h, w)"""
        grid = (image.shape[2] // self.stride, image.shape[3] // self.stride)
        return self.visual.trunk.forward_features(image), grid

    def dense(
        self, trunk: tuple[Tensor, tuple[int, int]], guidance: Guidance = NO_GUIDANCE
    ) -> tuple[Tensor, Tensor]:
        """trunk -> (N, D, h, w), (N, h*w, K)"""
        features, grid = trunk
        pool = self.attention_pool
        if features.ndim == 4:
            features = features.flatten(2).transpose(1, 2)
        patches = features[:, -grid[0] * grid[1] :]
        if self.is_latent:
            keys, values = pool.kv(patches).chunk(2, dim=-1)
            values = pool.proj(values)
            values = values + pool.mlp(pool.norm(values)) if pool.mlp is not None else values
        else:
            _, keys, values = pool.qkv(patches).chunk(3, dim=-1)
            values = pool.proj(values)
        return to_grid(self._project(values), grid), keys

    def pool(self, trunk: tuple[Tensor, tuple[int, int]]) -> Tensor:
        """trunk -> (N, D): the heads of timm and open_clip"""
        return self.visual.head(self.visual.trunk.forward_head(trunk[0]))

    def _project(self, values: Tensor) -> Tensor:
        """Apply the layers of open_clip and timm after the pool: a linear or MLP head, or none."""
        trunk, head = self.visual.trunk, self.visual.head
        if self.is_latent:
            values = trunk.head(trunk.fc_norm(values))
        for name, layer in head.named_children():
            values = values if name == 'pool' else layer(values)
        return values


def _accept_any_size(trunk: Any) -> None:
    """Let a timm ViT resize its position embeddings to any image."""
    from timm.layers import Format
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(trunk, VisionTransformer):
        raise UserError(
            f'the timm tower {type(trunk).__name__} takes one image size only, so it '
            'cannot segment photos of any size; use a SigLIP ViT'
        )
    trunk.dynamic_img_size = True  # type: ignore[misc]  # Final for TorchScript
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC
