"""Attention of the patches to one another, as a sum of terms."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import attention


def mix(heads, pairs, *, factor=1.0, bias=None) -> Tensor:
    """Queries, keys, values -> (N, heads, L, d): sum of weight * softmax(a b / sqrt(d)) values.

    A fused attention for each term: it never makes the map, which a sum of maps would have to.

    Args:
        heads: (N, heads, L, d) each.
        pairs: [('q', 'k', weight)].
        factor, bias: scores become factor * a b / sqrt(d) + bias, (L, L) or (N, 1, L, L).
    """
    named, total = dict(zip('qkv', heads)), 0
    for first, second, weight in pairs:
        rows, columns = named[first], named[second]
        if bias is None and factor == 1:
            mixed = attention(rows, columns, named['v'])
        else:
            scale = factor * rows.shape[-1] ** -0.5
            mixed = F.scaled_dot_product_attention(
                rows, columns, named['v'], attn_mask=bias, scale=scale
            )
        total = total + (mixed if weight == 1 else weight * mixed)
    return total


def spread(share, values) -> Tensor:
    """(N, L, L) for all heads or (N, heads, L, L), and (N, heads, L, d) -> (N, heads, L, d)"""
    if share.ndim == 4:
        return share @ values
    heads = values.shape[1]
    flat = share @ values.transpose(1, 2).flatten(2)
    return flat.unflatten(2, (heads, -1)).transpose(1, 2)


def similarity(patches) -> Tensor:
    """(N, L, D) -> (N, L, L) cosines"""
    unit = F.normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)


def sharpen(cosines, *, margin, gain) -> Tensor:
    """(N, L, L) -> (N, L, L), rows sum to 1: softmax of gain * (S - margin * mean S) (ProxyCLIP).

    Negative scores are left out; a patch that has none left attends to itself.
    """
    scores = gain * (cosines - margin * cosines.mean(dim=(1, 2), keepdim=True))
    itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill((scores < 0) & ~itself, -torch.inf).softmax(dim=-1)


def gather(patches, cosines, *, threshold) -> Tensor:
    """(N, L, D), (N, L, L) -> (N, L, D): means over similar patches (SC-CLIP, self-adjusting)"""
    share = cosines.masked_fill(cosines < threshold, 0)
    return share @ patches / (share.sum(dim=2, keepdim=True) + 1e-6)


def neighbourhood(grid, sigma, *, like) -> Tensor:
    """(h, w), sigma in patches -> (h*w, h*w): exp(-distance^2 / 2 sigma^2) (NACLIP, section 3.2)"""
    height, width = (torch.arange(side, dtype=like.dtype, device=like.device) for side in grid)
    rows, columns = ((side[:, None] - side).square() for side in (height, width))
    squares = rows[:, None, :, None] + columns[None, :, None, :]
    return (-squares / (2 * sigma**2)).exp().reshape(grid[0] * grid[1], -1)


def resize_rows(rows, grid, fine):
    """(N, h*w, D), (h, w), (h', w') -> (N, h'*w', D): bilinear"""
    if fine is None or fine == grid:
        return rows
    maps = rows.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, fine, mode='bilinear', align_corners=False)
    return maps.flatten(2).transpose(1, 2)


def resize_heads(values, grid, fine):
    """(N, heads, h*w, d), (h, w), (h', w') -> (N, heads, h'*w', d): bilinear"""
    rows = resize_rows(values.flatten(0, 1), grid, fine)
    return rows.unflatten(0, values.shape[:2])
