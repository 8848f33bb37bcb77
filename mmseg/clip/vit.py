"""ViTs: the tokens before the last block, dense features, image embedding.

Where the class token pools, `dense` reads the last block without its attention (MaskCLIP), or with
that of another method: see `readout.read_last_block`. Where an attention pool or the mean of the
patches follows, it is this pool that MaskCLIP skips: each patch passes through it by itself, and
the blocks stay whole unless another readout is chosen.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.kernels import linear

from .blocks import KEYS, VALUES, parts_of
from .huggingface import ImageTower
from .readout import NO_GUIDANCE, PRESETS, Guidance, Readout, blocks_needed, read_last_block
from .readout.attention import Grid, resize_tokens
from .transformer import PositionRule, Trunk, resize_positions, to_grid


class ViTTower(nn.Module):
    """A ViT of whatever library. A subclass has the property and the methods that raise below.

    Args:
        visual: the `visual` of an open_clip model.
        prefix: number of tokens before the patches.
        stride: pixels of a patch.
        pools_by_token: the class token is the image embedding, before its projection.
        has_token: there is a class token.
        project_keys: apply the output projection to the keys (as in the original code, Q2).
        readout: how `dense` reads the last block.

    Raises:
        UserError: blocks with more than plain attention, or a readout that needs a class token
            where there is none.
    """

    must_pad = False

    def __init__(
        self,
        visual: Any,
        *,
        prefix: int,
        stride: int,
        pools_by_token: bool,
        has_token: bool = True,
        project_keys: bool = False,
        readout: Readout = PRESETS['maskclip'],
    ) -> None:
        if readout.cls_weight and not has_token:
            raise UserError(
                'readout.cls_weight adds the class token to the patches, but this image tower has '
                'none; set readout.cls_weight=0'
            )
        super().__init__()
        if not pools_by_token and readout == PRESETS['maskclip']:
            readout = PRESETS['clip']  # the pool is skipped in its place
        self.visual, self.prefix, self.stride = visual, prefix, stride
        self.pools_by_token = pools_by_token
        self.project_keys, self.readout = project_keys, readout
        self.needed = blocks_needed(readout, len(self.blocks))
        parts_of(self.blocks[-1])

    @property
    def blocks(self) -> Any:
        """Blocks of `visual`."""
        raise NotImplementedError

    def embed(self, image: Tensor) -> Trunk:
        """(N, 3, H, W) normalised -> the input of the blocks"""
        raise NotImplementedError

    def head(self, patches: Tensor) -> Tensor:
        """Apply all behind the last block to each patch: (N, L, width) -> (N, L, D)."""
        raise NotImplementedError

    def keys(self, trunk: Trunk, patches: Tensor, grid: Grid) -> Tensor:
        """Compute the keys of the last block, on a grid that may be finer: -> (N, L, K).

        Args:
            patches: (N, L, width) that `dense` read out of the last block.
        """
        block = parts_of(self.blocks[-1], trunk.rope)
        keys = block.project(block.norm_1(trunk.patches), KEYS)
        return resize_tokens(block.out(keys) if self.project_keys else keys, trunk.grid, grid)

    def pool(self, trunk: Trunk) -> Tensor:
        """Trunk -> (N, D): the last block and the pool, as they are"""
        raise NotImplementedError

    def trunk(self, image: Tensor) -> Trunk:
        """(N, 3, H, W) normalised -> Trunk"""
        start = self.embed(image)
        tokens = start.tokens
        outputs = {0: tokens} if 0 in self.needed.outputs else {}
        early_attention = None
        for number, module in enumerate(self.blocks[:-1], start=1):
            block = parts_of(module, start.rope)
            if number in self.needed.attentions:
                tokens, attention = block.run_with_attention(tokens)
                attention = attention / len(self.needed.attentions)
                early_attention = (
                    attention if early_attention is None else early_attention + attention
                )
            else:
                tokens = block.run(tokens)
            if number in self.needed.outputs:
                outputs[number] = tokens
        return start._replace(tokens=tokens, block_outputs=outputs, early_attention=early_attention)

    def dense(self, trunk: Trunk, guidance: Guidance = NO_GUIDANCE) -> tuple[Tensor, Tensor]:
        """Trunk -> (N, D, h, w), (N, h*w, K), on the grid of `guidance` where that is finer"""
        grid = guidance.proxy_grid or trunk.grid
        patches = read_last_block(self.blocks, trunk, self.readout, guidance)
        return to_grid(self.head(patches), grid), self.keys(trunk, patches, grid)


class ClipViT(ViTTower):
    """open_clip's VisionTransformer, pooled by its class token, the mean or an attention (CoCa).

    Args:
        positions: rule of `resize_positions`.
        options: see `ViTTower`.

    Raises:
        UserError: two attention pools, or blocks with more than plain attention.
    """

    def __init__(self, visual: Any, /, *, positions: PositionRule = 'size', **options: Any) -> None:
        if getattr(visual, 'attn_pool_contrastive', None) is not None:
            raise UserError(
                'ViTs with two attention pools, parallel or in cascade, are unfinished in '
                'open_clip and give no image embedding; use attentional_pool=True'
            )
        super().__init__(
            visual,
            prefix=1,
            stride=visual.patch_size[0],
            pools_by_token=visual.attn_pool is None and visual.pool_type == 'tok',
            **options,
        )
        self.positions = positions

    @property
    def blocks(self) -> Any:
        return self.visual.transformer.resblocks

    def embed(self, image: Tensor) -> Trunk:
        visual = self.visual
        patches = visual.conv1(image)
        grid = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)
        cls_token = visual.class_embedding.expand(tokens.shape[0], 1, -1)
        positions = resize_positions(visual.positional_embedding, grid, self.positions)
        return Trunk(visual.ln_pre(torch.cat([cls_token, tokens], dim=1) + positions), grid)

    def head(self, patches: Tensor) -> Tensor:
        if self.visual.attn_pool is not None:
            patches = self._pass_through_pool(patches)
        return linear(self.visual.ln_post(patches), self.visual.proj.T)

    def _pass_through_pool(self, patches: Tensor) -> Tensor:
        """Apply the value and the output projection of the pool: (N, L, width) -> (N, L, D)."""
        pool = self.visual.attn_pool
        weight = pool.attn.v_proj_weight
        if weight is None:  # PyTorch keeps q, k and v together where their inputs are as wide
            weight = pool.attn.in_proj_weight.chunk(3)[VALUES]
        values = linear(pool.ln_k(patches), weight, pool.attn.in_proj_bias.chunk(3)[VALUES])
        return linear(values, pool.attn.out_proj.weight, pool.attn.out_proj.bias)

    def pool(self, trunk: Trunk) -> Tensor:
        pooled, _ = self.visual._pool(self.visual.transformer.resblocks[-1](trunk.tokens))
        return pooled @ self.visual.proj


class TimmViT(ViTTower):
    """timm's VisionTransformer or Eva: SigLIP, EVA, PE-Core, MobileCLIP-B, ViTamin.

    Args:
        options: see `ViTTower`.

    Raises:
        UserError: see `ViTTower`; or rotary positions in every block.
    """

    must_pad = True

    def __init__(self, visual: Any, /, **options: Any) -> None:
        trunk = visual.trunk
        accept_any_size(trunk)
        super().__init__(
            visual,
            prefix=trunk.num_prefix_tokens,
            stride=trunk.patch_embed.feat_ratio(),
            pools_by_token=trunk.attn_pool is None and trunk.global_pool == 'token',
            has_token=trunk.cls_token is not None,
            **options,
        )

    @property
    def blocks(self) -> Any:
        return self.visual.trunk.blocks

    def embed(self, image: Tensor) -> Trunk:
        trunk = self.visual.trunk
        height, width = (side // self.stride * self.stride for side in image.shape[2:])
        patches = trunk.patch_embed(image[..., :height, :width])  # (N, h, w, width)
        grid = (patches.shape[1], patches.shape[2])
        tokens, rope = trunk._pos_embed(patches), None
        if isinstance(tokens, tuple):  # Eva's, with its rotary positions
            tokens, rope = tokens
        return Trunk(trunk.norm_pre(tokens), grid, prefix=self.prefix, rope=rope)

    def head(self, patches: Tensor) -> Tensor:
        """Pool each patch by itself, with the heads of timm and open_clip.

        A prefix that is a copy of the patch lets every pool of timm return the patch.
        """
        places = self.visual.trunk.norm(patches).flatten(0, 1)[:, None]
        pooled = self._pool(places.expand(-1, 1 + self.prefix, -1))
        return pooled.unflatten(0, patches.shape[:2])

    def keys(self, trunk: Trunk, patches: Tensor, grid: Grid) -> Tensor:
        """Compute the keys of the attention pool if there is one, or see `ViTTower`."""
        network = self.visual.trunk
        if network.attn_pool is None:
            return super().keys(trunk, patches, grid)
        weight, bias = network.attn_pool.kv.weight, network.attn_pool.kv.bias
        bias = None if bias is None else bias.chunk(2)[0]
        return linear(network.norm(patches), weight.chunk(2)[0], bias)

    def pool(self, trunk: Trunk) -> Tensor:
        tokens = parts_of(self.blocks[-1], trunk.rope).run(trunk.tokens)
        return self._pool(self.visual.trunk.norm(tokens))

    def _pool(self, tokens: Tensor) -> Tensor:
        return self.visual.head(self.visual.trunk.forward_head(tokens))


class HubViT(ViTTower):
    """The image tower of a dual encoder of transformers: CLIP, MetaCLIP 2, SigLIP, TIPSv2.

    Args:
        options: see `ViTTower`.
    """

    def __init__(self, visual: ImageTower, /, **options: Any) -> None:
        network: Any = visual.network
        has_token = not hasattr(network, 'head')
        super().__init__(
            visual,
            prefix=int(has_token) + getattr(network.config, 'num_register_tokens', 0),
            stride=network.config.patch_size,
            pools_by_token=has_token,
            has_token=has_token,
            **options,
        )

    @property
    def blocks(self) -> Any:
        encoder = self.visual.network.encoder
        return encoder.layers if hasattr(encoder, 'layers') else encoder.layer

    def embed(self, image: Tensor) -> Trunk:
        """See `ViTTower`. The library resizes the positions."""
        network, stride = self.visual.network, self.stride
        grid = (image.shape[2] // stride, image.shape[3] // stride)
        embed = network.embeddings
        if hasattr(embed, 'resize_positional_embeddings'):  # SigLIP 2, of flattened patches
            image = image[..., : grid[0] * stride, : grid[1] * stride]
            patches = image.unfold(2, stride, stride).unfold(3, stride, stride)
            patches = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
            sizes = torch.tensor([grid], device=image.device).expand(len(image), 2)
            tokens = embed(patches, sizes)
        elif hasattr(embed, 'position_ids'):
            tokens = embed(image, interpolate_pos_encoding=True)
        else:
            tokens = embed(image)
        norm = getattr(network, 'pre_layrnorm', nn.Identity())
        return Trunk(norm(tokens), grid, prefix=self.prefix)

    def head(self, patches: Tensor) -> Tensor:
        """Pool each patch by itself, if an attention pools, and project."""
        places = self._norm(patches)
        if not self.pools_by_token:
            pooled = self.visual.network.head(places.flatten(0, 1)[:, None])
            places = pooled.unflatten(0, patches.shape[:2])
        return self.visual.projection(places)

    def keys(self, trunk: Trunk, patches: Tensor, grid: Grid) -> Tensor:
        """Compute the keys of the attention pool if there is one, or see `ViTTower`."""
        if self.pools_by_token:
            return super().keys(trunk, patches, grid)
        pool = self.visual.network.head.attention
        weight, bias = (x.chunk(3)[KEYS] for x in (pool.in_proj_weight, pool.in_proj_bias))
        return linear(self._norm(patches), weight, bias)

    def pool(self, trunk: Trunk) -> Tensor:
        tokens = self._norm(parts_of(self.blocks[-1]).run(trunk.tokens))
        pooled = tokens[:, 0] if self.pools_by_token else self.visual.network.head(tokens)
        return self.visual.projection(pooled)

    def _norm(self, tokens: Tensor) -> Tensor:
        network = self.visual.network
        norm = network.layernorm if hasattr(network, 'layernorm') else network.post_layernorm
        return norm(tokens)


def accept_any_size(trunk: Any) -> None:
    """Let timm's VisionTransformer or Eva resize its positions to any image.

    Raises:
        UserError: rotary positions that differ from block to block.
    """
    from timm.layers import Format

    rope: Any = getattr(trunk, 'rope', None)
    if getattr(trunk, 'rope_mixed', False):
        raise UserError('this ViT has rotary positions of its own in every block; use another')
    if hasattr(rope, '_use_cached_embed'):
        rope._use_cached_embed = False  # computed for each grid instead
    trunk.dynamic_img_size = True  # Final for TorchScript
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC
