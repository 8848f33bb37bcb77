"""Parts of a vision transformer: positions, and open_clip's block on this project's kernels."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import attention, linear

RULES = ('size', 'factor', 'antialias')


class Trunk(NamedTuple):
    """A ViT before its last block.

    Attributes:
        tokens: (N, 1 + h*w, width), the class token first.
        grid: (h, w).
        seen: {number from 1: (N, 1 + h*w, width) behind that block}, 0 before the first, of those
            that the readout asks for.
        early: (N, heads, 1 + h*w, 1 + h*w) mean attention of the blocks that it asks for, or None.
    """

    tokens: Tensor
    grid: tuple[int, int]
    seen: dict[int, Tensor] = {}
    early: Tensor | None = None


def run_block(block, tokens):
    """open_clip's ResidualAttentionBlock on (N, L, D)"""
    tokens = tokens + block.ls_1(self_attention(block.attn, block.ln_1(tokens)))
    return tokens + block.ls_2(run_mlp(block.mlp, block.ln_2(tokens)))


def run_block_with_attention(block, tokens):
    """(N, L, D) -> (N, L, D) as `run_block`, (N, heads, L, L) its attention"""
    query, keys, values = heads_of(block.attn, block.ln_1(tokens))
    share = (query * query.shape[-1] ** -0.5 @ keys.transpose(2, 3)).softmax(dim=-1)
    tokens = tokens + block.ls_1(project(block.attn, share @ values))
    return tokens + block.ls_2(run_mlp(block.mlp, block.ln_2(tokens))), share


def self_attention(attn, tokens):
    """nn.MultiheadAttention of (N, L, D) to itself -> (N, L, D)"""
    return project(attn, attention(*heads_of(attn, tokens)))


def heads_of(attn, tokens):
    """nn.MultiheadAttention, (N, L, D) -> its queries, keys and values, (N, heads, L, d) each"""
    mixed = linear(tokens, attn.in_proj_weight, attn.in_proj_bias)
    return tuple(mixed.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4))


def project(attn, mixed):
    """(N, heads, L, d) -> (N, L, D): the output projection"""
    flat = mixed.transpose(1, 2).flatten(2)
    return linear(flat, attn.out_proj.weight, attn.out_proj.bias)


def run_mlp(mlp, tokens):
    """open_clip's `mlp` (c_fc, gelu, c_proj) on (N, L, D)"""
    hidden = mlp.gelu(linear(tokens, mlp.c_fc.weight, mlp.c_fc.bias))
    return linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias)


def resize_positions(positions, grid, rule='size', *, prefix=1):
    """(prefix + g*g, D), (h, w) -> (prefix + h*w, D): bicubic over the grid, other rows untouched.

    Args:
        rule: 'size' resamples to exactly the grid; 'factor' by (n + 0.1) / g, which shifts the
            samples a little (DINO's guard against rounding, which most published code inherits);
            'antialias' as 'size' with PIL's kernel (GEM, timm).
    """
    size = round((positions.shape[0] - prefix) ** 0.5)
    if not torch.compiler.is_exporting() and grid == (size, size):  # exported: any size
        return positions
    square = positions[prefix:].T.reshape(1, -1, size, size).float()
    options = dict(mode='bicubic', align_corners=False)
    if rule == 'factor':
        factor = tuple((n + 0.1) / size for n in grid)
        square = F.interpolate(square, scale_factor=factor, **options)
    else:
        square = F.interpolate(square, size=grid, antialias=rule == 'antialias', **options)
    return torch.cat([positions[:prefix], square.flatten(2)[0].T.to(positions.dtype)], dim=0)
