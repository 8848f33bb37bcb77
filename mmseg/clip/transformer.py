"""Parts of a vision transformer: position embeddings, and open_clip's block on our kernels."""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import attention, linear

PositionRule = Literal['size', 'factor', 'antialias']


class Trunk(NamedTuple):
    """The tokens of a ViT before its last block.

    Attributes:
        tokens: (N, 1 + h*w, width), the class token first.
        grid: (h, w).
        block_outputs: {number from 1: (N, 1 + h*w, width)} of the blocks that the readout needs.
            Number 0 is the input of the first block.
        early_attention: (N, heads, 1 + h*w, 1 + h*w) mean attention of the blocks that the readout
            needs, or None.
    """

    tokens: Tensor
    grid: tuple[int, int]
    block_outputs: dict[int, Tensor] = {}
    early_attention: Tensor | None = None


def resize_positions(
    positions: Tensor, grid: tuple[int, int], rule: PositionRule = 'size', *, prefix: int = 1
) -> Tensor:
    """Resample position embeddings to another grid, bicubically; prefix rows are kept.

    (prefix + g*g, D), (h, w) -> (prefix + h*w, D)

    Args:
        rule: 'size' resamples to exactly the grid. 'factor' scales by (n + 0.1) / g, which shifts
            the samples a little (DINO's guard against rounding, inherited by most published code).
            'antialias' is 'size' with PIL's kernel (GEM, timm).
    """
    size = round((positions.shape[0] - prefix) ** 0.5)
    if not torch.compiler.is_exporting() and grid == (size, size):  # exported: any size
        return positions
    square = positions[prefix:].T.reshape(1, -1, size, size).float()
    if rule == 'factor':
        factor = tuple((n + 0.1) / size for n in grid)
        square = F.interpolate(square, scale_factor=factor, mode='bicubic', align_corners=False)
    else:
        antialias = rule == 'antialias'
        square = F.interpolate(
            square, grid, mode='bicubic', align_corners=False, antialias=antialias
        )
    return torch.cat([positions[:prefix], square.flatten(2)[0].T.to(positions.dtype)], dim=0)


def run_block(block: Any, tokens: Tensor) -> Tensor:
    """Run open_clip's ResidualAttentionBlock: (N, L, D) -> (N, L, D)."""
    mixed = attention(*split_heads(block.attn, block.ln_1(tokens)))
    tokens = tokens + block.ls_1(output_projection(block.attn, mixed))
    return tokens + block.ls_2(run_mlp(block.mlp, block.ln_2(tokens)))


def run_block_with_attention(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Run a block and return its attention too: (N, L, D) -> (N, L, D), (N, heads, L, L)."""
    query, keys, values = split_heads(block.attn, block.ln_1(tokens))
    weights = (query * query.shape[-1] ** -0.5 @ keys.transpose(2, 3)).softmax(dim=-1)
    tokens = tokens + block.ls_1(output_projection(block.attn, weights @ values))
    return tokens + block.ls_2(run_mlp(block.mlp, block.ln_2(tokens))), weights


def split_heads(attn: Any, tokens: Tensor) -> list[Tensor]:
    """Compute queries, keys and values of an nn.MultiheadAttention.

    (N, L, D) -> three times (N, heads, L, d)
    """
    qkv = linear(tokens, attn.in_proj_weight, attn.in_proj_bias)
    return list(qkv.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4))


def output_projection(attn: Any, mixed: Tensor) -> Tensor:
    """Concatenate the heads and project: (N, heads, L, d) -> (N, L, D)."""
    tokens = mixed.transpose(1, 2).flatten(2)
    return linear(tokens, attn.out_proj.weight, attn.out_proj.bias)


def run_mlp(mlp: Any, tokens: Tensor) -> Tensor:
    """Run open_clip's `mlp` (c_fc, gelu, c_proj) on (N, L, D)."""
    hidden = mlp.gelu(linear(tokens, mlp.c_fc.weight, mlp.c_fc.bias))
    return linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias)


def to_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, h*w, D), (h, w) -> (N, D, h, w)"""
    return tokens.transpose(1, 2).unflatten(2, grid)
