"""Blocks of ViTs by their parts, so that a readout can put other attentions between them.

A block computes y = x + ls_1(out(attention(qkv(norm_1(x))))), then y + ls_2(mlp(norm_2(y))).
`ClipBlock` is open_clip's, `TimmBlock` those of timm's VisionTransformer and Eva, with rotary
positions and separate projections, and `HubBlock` transformers'. No part copies a weight.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.kernels import attention, linear

QUERIES, KEYS, VALUES = range(3)  # parts of qkv
Layer = Callable[[Tensor], Tensor]


class Block:
    """Parts of a block. A subclass sets the attributes and has `project`."""

    block: Any  # of the library
    heads: int
    out_proj: Any  # a linear layer
    norm_1: Layer
    norm_2: Layer
    ls_1: Layer
    ls_2: Layer

    def qkv(self, normed: Tensor) -> list[Tensor]:
        """(N, L, width) -> three times (N, heads, L, d)"""
        parts = (self.project(normed, part) for part in (QUERIES, KEYS, VALUES))
        return [x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in parts]

    def project(self, normed: Tensor, part: int) -> Tensor:
        """Compute QUERIES, KEYS or VALUES alone: (N, L, width) -> (N, L, heads * d)."""
        raise NotImplementedError

    def out(self, mixed: Tensor) -> Tensor:
        """Apply the output projection: (N, L, heads * d) -> (N, L, width)."""
        return linear(mixed, self.out_proj.weight, self.out_proj.bias)

    def mlp(self, normed: Tensor) -> Tensor:
        """(N, L, width) -> (N, L, width)"""
        return self.block.mlp(normed)

    def run(self, tokens: Tensor) -> Tensor:
        """Run the block on our kernels: (N, L, width) -> (N, L, width)."""
        return self._finish(tokens, attention(*self.qkv(self.norm_1(tokens))))

    def run_with_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention too: (N, L, width) -> (N, L, width), (N, heads, L, L)."""
        query, keys, values = self.qkv(self.norm_1(tokens))
        weights = (query * query.shape[-1] ** -0.5 @ keys.transpose(2, 3)).softmax(dim=-1)
        return self._finish(tokens, weights @ values), weights

    def _finish(self, tokens: Tensor, mixed: Tensor) -> Tensor:
        tokens = tokens + self.ls_1(self.out(join_heads(mixed)))
        return tokens + self.ls_2(self.mlp(self.norm_2(tokens)))


def join_heads(mixed: Tensor) -> Tensor:
    """(N, heads, L, d) -> (N, L, heads * d)"""
    return mixed.transpose(1, 2).flatten(2)


class ClipBlock(Block):
    """open_clip's ResidualAttentionBlock."""

    def __init__(self, block: Any, /) -> None:
        self.block, self.attn = block, block.attn
        self.heads, self.out_proj = block.attn.num_heads, block.attn.out_proj
        self.norm_1, self.norm_2 = block.ln_1, block.ln_2
        self.ls_1, self.ls_2 = block.ls_1, block.ls_2

    def qkv(self, normed: Tensor) -> list[Tensor]:
        qkv = linear(normed, self.attn.in_proj_weight, self.attn.in_proj_bias)
        return list(qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4))

    def project(self, normed: Tensor, part: int) -> Tensor:
        weight, bias = self.attn.in_proj_weight, self.attn.in_proj_bias
        return linear(normed, weight.chunk(3)[part], bias.chunk(3)[part])

    def mlp(self, normed: Tensor) -> Tensor:
        mlp = self.block.mlp
        hidden = mlp.gelu(linear(normed, mlp.c_fc.weight, mlp.c_fc.bias))
        return linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias)


class TimmBlock(Block):
    """A block of timm's VisionTransformer or Eva, with the norm before or behind each part.

    Args:
        block: timm's Block, EvaBlock or EvaBlockPostNorm.
        rope: (L, 2 * d) sines and cosines of the patches, the last L tokens; None for none.
    """

    def __init__(self, block: Any, /, rope: Tensor | None = None) -> None:
        from timm.models.eva import EvaBlock, EvaBlockPostNorm

        self.block, self.attn, self.rope = block, block.attn, rope
        self.heads, self.out_proj = block.attn.num_heads, block.attn.proj
        self.norm_1, self.norm_2 = block.norm1, block.norm2
        if isinstance(block, EvaBlockPostNorm):
            self.norm_1, self.norm_2 = nn.Identity(), nn.Identity()
            self.ls_1, self.ls_2 = block.norm1, block.norm2
        elif isinstance(block, EvaBlock):
            self.ls_1, self.ls_2 = _scale_by(block.gamma_1), _scale_by(block.gamma_2)
        else:
            self.ls_1, self.ls_2 = block.ls1, block.ls2

    def qkv(self, normed: Tensor) -> list[Tensor]:
        query, keys, values = super().qkv(normed)
        return [self._rotate(self.attn.q_norm(query)), self._rotate(self.attn.k_norm(keys)), values]

    def _rotate(self, x: Tensor) -> Tensor:
        """Apply rotary positions to the patches: (N, heads, prefix + L, d) -> the same."""
        from timm.layers import apply_rot_embed_cat

        if self.rope is None:
            return x
        prefix, patches = x.split([x.shape[2] - len(self.rope), len(self.rope)], dim=2)
        half = getattr(self.attn, 'rotate_half', False)
        return torch.cat([prefix, apply_rot_embed_cat(patches, self.rope, half=half)], dim=2)

    def project(self, normed: Tensor, part: int) -> Tensor:
        attn = self.attn
        if attn.qkv is None:
            layer = (attn.q_proj, attn.k_proj, attn.v_proj)[part]
            return linear(normed, layer.weight, layer.bias)
        if hasattr(attn, 'q_bias'):
            bias = (attn.q_bias, attn.k_bias, attn.v_bias)[part]
        else:
            bias = None if attn.qkv.bias is None else attn.qkv.bias.chunk(3)[part]
        return linear(normed, attn.qkv.weight.chunk(3)[part], bias)

    def out(self, mixed: Tensor) -> Tensor:
        """Apply the norm within the attention, if there is one, and the output projection."""
        return super().out(self.attn.norm(mixed))


class HubBlock(Block):
    """A block of transformers' CLIP and SigLIP ('self_attn'), or TIPSv2 ('attention')."""

    def __init__(self, block: Any, /) -> None:
        self.block = block
        if hasattr(block, 'self_attn'):
            self.attn, self.out_proj = block.self_attn, block.self_attn.out_proj
            self.heads = self.attn.num_heads
            self.norm_1, self.norm_2 = block.layer_norm1, block.layer_norm2
            self.ls_1 = self.ls_2 = nn.Identity()
        else:
            self.attn, self.out_proj = block.attention, block.attention.o_proj
            self.heads = self.attn.num_attention_heads
            self.norm_1, self.norm_2 = block.norm1, block.norm2
            self.ls_1, self.ls_2 = block.layer_scale1, block.layer_scale2

    def project(self, normed: Tensor, part: int) -> Tensor:
        layer = (self.attn.q_proj, self.attn.k_proj, self.attn.v_proj)[part]
        return linear(normed, layer.weight, layer.bias)


def parts_of(block: Any, rope: Tensor | None = None) -> Block:
    """Name the parts of a block of open_clip, timm or transformers.

    Args:
        rope: rotary positions of the patches, see `TimmBlock`.

    Raises:
        UserError: a block whose attention is more than q, k and v.
    """
    from open_clip.transformer import ResidualAttentionBlock
    from timm.layers import Attention, AttentionRope
    from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
    from timm.models.vision_transformer import Block as PlainBlock

    if isinstance(block, ResidualAttentionBlock):
        return ClipBlock(block)
    if type(block).__module__.startswith('transformers.'):
        return HubBlock(block)
    attn: Any = getattr(block, 'attn', None)
    known = type(block) in (PlainBlock, EvaBlock, EvaBlockPostNorm)
    known &= type(attn) in (Attention, AttentionRope, EvaAttention)
    if known and attn.gate is None and getattr(attn, 'num_kv_groups', 1) == 1:
        return TimmBlock(block, rope)
    raise UserError(
        f'the image tower has blocks of another kind ({type(block).__name__} with '
        f'{type(attn).__name__}), whose values cannot be read by themselves; use a ViT with plain '
        'attention'
    )


def _scale_by(gamma: Tensor | None) -> Layer:
    return nn.Identity() if gamma is None else lambda x: gamma * x
