"""Patches on a finer grid."""

import torch.nn.functional as F


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
