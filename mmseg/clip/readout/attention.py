"""Attentions between patches, and how values are averaged with them."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import attention

Grid = tuple[int, int]


def sum_pair_attentions(
    qkv: Sequence[Tensor],
    pairs: Iterable[tuple[str, str, float]],
    *,
    factor: float = 1.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Sum weight * softmax(factor * a b / sqrt(d) + bias) v over pairs such as q-q and k-k.

    Each term is a fused attention of its own, so no attention matrix is materialised.

    (N, heads, L, d) queries, keys, values -> (N, heads, L, d)

    Args:
        pairs: (first, second, weight), for example ('q', 'k', 1.0).
        bias: (L, L) or (N, 1, L, L), added to the scores.
    """
    query, keys, values = qkv
    by_name = dict(q=query, k=keys, v=values)
    total = torch.zeros_like(values)
    for first, second, weight in pairs:
        a, b = by_name[first], by_name[second]
        if bias is None and factor == 1:
            mixed = attention(a, b, values)
        else:
            scale = factor * a.shape[-1] ** -0.5
            mixed = F.scaled_dot_product_attention(a, b, values, attn_mask=bias, scale=scale)
        total = total + (mixed if weight == 1 else weight * mixed)
    return total


def apply_attention(attention: Tensor, values: Tensor) -> Tensor:
    """Average values with given attention weights.

    (N, L, L) for all heads or (N, heads, L, L), (N, heads, L, d) -> (N, heads, L, d)
    """
    if attention.ndim == 4:
        return attention @ values
    mixed = attention @ values.transpose(1, 2).flatten(2)
    return mixed.unflatten(2, (values.shape[1], -1)).transpose(1, 2)


def cosine_similarity(patches: Tensor) -> Tensor:
    """(N, L, D) -> (N, L, L) cosines of all pairs of patches"""
    unit = F.normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)


def similarity_attention(cosines: Tensor, *, margin: float, gain: float) -> Tensor:
    """Turn cosines S into attention: softmax of gain * (S - margin * mean S).

    This is ProxyCLIP's adaptive normalisation and masking (ECCV 2024), with beta as margin. Pairs
    with negative scores are masked out. A patch without any other attends to itself.

    (N, L, L) -> (N, L, L), rows sum to 1
    """
    scores = gain * (cosines - margin * cosines.mean(dim=(1, 2), keepdim=True))
    itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill((scores < 0) & ~itself, -torch.inf).softmax(dim=-1)


def gaussian_neighbourhood(grid: Grid, sigma: float, *, like: Tensor) -> Tensor:
    """Compute exp(-distance^2 / 2 sigma^2) of all pairs of patches (NACLIP, section 3.2).

    (h, w), sigma in patches -> (h*w, h*w)
    """
    height, width = (torch.arange(side, dtype=like.dtype, device=like.device) for side in grid)
    rows, columns = ((side[:, None] - side).square() for side in (height, width))
    squares = rows[:, None, :, None] + columns[None, :, None, :]
    return (-squares / (2 * sigma**2)).exp().reshape(grid[0] * grid[1], -1)


def resize_tokens(tokens: Tensor, grid: Grid, size: Grid | None) -> Tensor:
    """Resize tokens on a grid bilinearly. None: keep the grid.

    (N, h*w, D), (h, w), (h', w') -> (N, h'*w', D)
    """
    if size is None or size == grid:
        return tokens
    features = tokens.transpose(1, 2).unflatten(2, grid)
    features = F.interpolate(features, size, mode='bilinear', align_corners=False)
    return features.flatten(2).transpose(1, 2)
