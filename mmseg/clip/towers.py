"""The kinds of CLIP image tower, each as trunk, dense readout and image embedding.

`trunk` is everything before the last attention; `dense` reads that attention's value path out at
every place; `pool` finishes the tower as CLIP does. None of them copies a weight.
"""

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import AttentionPool2d, AttentionPoolLatent, Format, RotAttentionPool2d
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from mmseg.errors import UserError
from mmseg.kernels import linear
from mmseg.utils import require_choice

from .readout import NOTHING, PRESETS, blocks_needed, read_out
from .readout.attention import resize_rows
from .transformer import RULES, Trunk, resize_positions, run_block, run_block_with_attention


def build_tower(visual, *, project_keys=False, readout=PRESETS['maskclip'], positions='size'):
    """open_clip's `visual` -> the adapter with trunk, dense, pool, `stride` and `must_pad`.

    Args:
        project_keys, readout, positions: see `ViTTower`; other towers have no such choice.
    """
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
        f'no dense features are known of the image tower {type(visual).__name__}; '
        'use an open_clip ViT, ModifiedResNet or timm tower with an attention pool'
    )


class ViTTower(nn.Module):
    """open_clip's VisionTransformer with a class token.

    Args:
        project_keys: see `CLIPDenseExtractor`.
        readout: a Readout: how `dense` reads the last block.
        positions: rule of `resize_positions`.
    """

    must_pad = False

    def __init__(
        self, visual, *, project_keys=False, readout=PRESETS['maskclip'], positions='size'
    ):
        super().__init__()
        blocks = visual.transformer.resblocks
        if visual.attn_pool is not None or not isinstance(blocks[-1], ResidualAttentionBlock):
            raise UserError(
                'no dense features are known of a ViT with an attentional pooler or '
                'custom blocks (CoCa and kin); use a plain CLIP ViT'
            )
        require_choice('positions', positions, RULES)
        self.visual, self.project_keys = visual, project_keys
        self.readout, self.positions = readout, positions
        self.needed = blocks_needed(readout, len(blocks))
        self.stride = visual.patch_size[0]

    def trunk(self, image) -> Trunk:
        """(N, 3, H, W) normalised -> all before the last block"""
        visual = self.visual
        patches = visual.conv1(image)
        grid = tuple(patches.shape[-2:])
        tokens = patches.flatten(2).transpose(1, 2)
        first = visual.class_embedding.expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([first, tokens], dim=1) + resize_positions(
            visual.positional_embedding, grid, self.positions
        )
        return self._run_blocks(visual.ln_pre(tokens), grid)

    def _run_blocks(self, tokens, grid):
        outputs, attentions = self.needed
        seen, early = {0: tokens} if 0 in outputs else {}, None
        for number, block in enumerate(self.visual.transformer.resblocks[:-1], start=1):
            if number in attentions:
                tokens, share = run_block_with_attention(block, tokens)
                share = share / len(attentions)
                early = share if early is None else early + share
            else:
                tokens = run_block(block, tokens)
            if number in outputs:
                seen[number] = tokens
        return Trunk(tokens, grid, seen, early)

    def dense(self, trunk, outside=NOTHING):
        """trunk -> (N, D, h, w), (N, h*w, width): by the readout, on the finer grid of `outside`"""
        trunk = Trunk(*trunk)
        patches = read_out(self.visual.transformer.resblocks, trunk, self.readout, outside)
        patches = linear(self.visual.ln_post(patches), self.visual.proj.T)
        keys = resize_rows(self._keys(trunk.tokens[:, 1:]), trunk.grid, outside.fine)
        return to_grid(patches, outside.fine or trunk.grid), keys

    def _keys(self, patches):
        """(N, h*w, width) -> (N, h*w, width): keys of the last block"""
        block = self.visual.transformer.resblocks[-1]
        weight, bias = block.attn.in_proj_weight.chunk(3)[1], block.attn.in_proj_bias.chunk(3)[1]
        keys, project = linear(block.ln_1(patches), weight, bias), block.attn.out_proj
        return linear(keys, project.weight, project.bias) if self.project_keys else keys

    def pool(self, trunk):
        """trunk -> (N, D): the last block with its attention, then open_clip's own pooling."""
        pooled, _ = self.visual._pool(self.visual.transformer.resblocks[-1](trunk[0]))
        return pooled @ self.visual.proj


class ResNetTower(nn.Module):
    """open_clip's ModifiedResNet: the attention pool read out per place (its positions unused)."""

    must_pad = False
    stride = 32

    def __init__(self, visual):
        super().__init__()
        self.visual = visual

    def trunk(self, image):
        """(N, 3, H, W) normalised -> (N, C, H // 32, W // 32)"""
        features = self.visual.stem(image)
        for layer in (
            self.visual.layer1,
            self.visual.layer2,
            self.visual.layer3,
            self.visual.layer4,
        ):
            features = layer(features)
        return features

    def dense(self, trunk):
        """trunk -> (N, D, h, w), (N, h*w, C)"""
        pool, places = self.visual.attnpool, trunk.flatten(2).transpose(1, 2)
        values = pool.c_proj(pool.v_proj(places))
        return to_grid(values, tuple(trunk.shape[-2:])), pool.k_proj(places)

    def pool(self, trunk):
        """trunk -> (N, D): the mean's query over mean and places, positions resized to the grid."""
        pool, places = self.visual.attnpool, trunk.flatten(2).transpose(1, 2)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
        tokens = tokens + resize_positions(pool.positional_embedding, tuple(trunk.shape[-2:]))
        query, keys, values = (
            proj(x).unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
            for proj, x in (
                (pool.q_proj, tokens[:, :1]),
                (pool.k_proj, tokens),
                (pool.v_proj, tokens),
            )
        )
        pooled = F.scaled_dot_product_attention(query, keys, values)
        return pool.c_proj(pooled.transpose(1, 2).flatten(1))


class TimmTower(nn.Module):
    """A timm trunk that ends in an attention pool: CLIP's 2-D ones, or SigLIP's latent one."""

    must_pad = True

    def __init__(self, visual):
        super().__init__()
        self.visual, trunk = visual, visual.trunk
        self.attention_pool = getattr(visual.head, 'pool', None) or getattr(
            trunk, 'attn_pool', None
        )
        if isinstance(self.attention_pool, (AttentionPool2d, RotAttentionPool2d)):
            self.stride = trunk.feature_info[-1]['reduction']
        elif isinstance(self.attention_pool, AttentionPoolLatent):
            _take_any_size(trunk)
            self.stride = trunk.patch_embed.patch_size[0]
        else:
            raise UserError(
                f'the timm tower {type(trunk).__name__} has no attention pool, so no '
                'value path to read dense features from; use one with timm_pool abs_attn, '
                'rot_attn or map'
            )

    def trunk(self, image):
        """(N, 3, H, W) normalised -> ((N, C, h, w) or (N, prefix + h*w, C), (h, w))"""
        grid = tuple(side // self.stride for side in image.shape[-2:])
        return self.visual.trunk.forward_features(image), grid

    def dense(self, trunk):
        """trunk -> (N, D, h, w), (N, h*w, K)"""
        features, grid = trunk
        pool = self.attention_pool
        if features.ndim == 4:
            features = features.flatten(2).transpose(1, 2)
        places = features[:, -grid[0] * grid[1] :]
        if isinstance(pool, AttentionPoolLatent):
            keys, values = pool.kv(places).chunk(2, dim=-1)
            values = pool.proj(values)
            values = values + pool.mlp(pool.norm(values)) if pool.mlp is not None else values
        else:
            _, keys, values = pool.qkv(places).chunk(3, dim=-1)
            values = pool.proj(values)
        return to_grid(self._project(values), grid), keys

    def pool(self, trunk):
        """trunk -> (N, D): timm's own head, then open_clip's."""
        return self.visual.head(self.visual.trunk.forward_head(trunk[0]))

    def _project(self, values):
        """What open_clip and timm put behind the pool: a linear or MLP head, or nothing."""
        trunk, head = self.visual.trunk, self.visual.head
        if isinstance(self.attention_pool, AttentionPoolLatent):
            values = trunk.head(trunk.fc_norm(values))
        for name, layer in head.named_children():
            values = values if name == 'pool' else layer(values)
        return values


def to_grid(tokens, grid):
    """(N, h*w, D), (h, w) -> (N, D, h, w)"""
    return tokens.transpose(1, 2).unflatten(2, grid)


def _take_any_size(trunk):
    """Let a timm ViT resize its position embeddings to whatever comes."""
    if not isinstance(trunk, TimmVisionTransformer):
        raise UserError(
            f'the timm tower {type(trunk).__name__} takes one image size only, so it '
            'cannot segment photos of any size; use a SigLIP ViT'
        )
    trunk.dynamic_img_size = True
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC
