"""Tokens unlike all others, and their repair (SC-CLIP, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def outlier_factors(patches, *, neighbours, reach='neighbour') -> Tensor:
    """(N, L, D) -> (N, L) local outlier factors, about 1 inside a crowd and more outside.

    Breunig et al., SIGMOD 2000, on squared Euclidean distances; `reach`: see `Repair`. With no more
    patches than neighbours all others count.
    """
    count = min(neighbours, patches.shape[1] - 1)
    if count < 1:
        return torch.ones_like(patches[..., 0])
    distances = torch.cdist(patches, patches, compute_mode='donot_use_mm_for_euclid_dist').square()
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    near, who = distances.topk(count, dim=2, largest=False)
    furthest = near[:, :, -1]  # the k-distance
    bound = furthest[:, :, None].expand_as(near)
    if reach == 'neighbour':
        bound = _of(furthest, who)
    density = 1 / near.maximum(bound).mean(dim=2).clamp_min(1e-10)
    return _of(density, who).mean(dim=2) / density


def outliers(factors, *, quantile) -> Tensor:
    """(N, L) -> (N, L) bool: above the quantile of its own image"""
    return factors > factors.quantile(quantile, dim=1, keepdim=True)


def repair(patches, broken, grid) -> Tensor:
    """(N, h*w, D), (N, h*w) bool -> the same, broken ones the mean of their sound 8 neighbours.

    One without a sound neighbour stays as it is.
    """
    sound = (~broken).to(patches.dtype)[..., None]
    total = _sum_of_neighbours(patches * sound, grid)
    count = _sum_of_neighbours(sound, grid)
    mend = broken[..., None] & (count > 0)
    return torch.where(mend, total / count.clamp_min(1), patches)


def _sum_of_neighbours(values, grid):
    """(N, h*w, D) -> (N, h*w, D): over the up to 8 places around each"""
    maps = values.transpose(1, 2).unflatten(2, grid)
    around = F.avg_pool2d(maps, 3, stride=1, padding=1, divisor_override=1) - maps
    return around.flatten(2).transpose(1, 2)


def _of(values, who):
    """(N, L), (N, L, K) indices -> (N, L, K)"""
    return values[:, None].expand(-1, who.shape[1], -1).gather(2, who)
