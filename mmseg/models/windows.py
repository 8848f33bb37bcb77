"""Sliding windows: large inputs in pieces of one size, a few at a time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def starts(size, window, stride) -> list[int]:
    """Where windows begin so that they cover `size`: 0, stride, ..., the last one flush."""
    if size <= window:
        return [0]
    return [*range(0, size - window, stride), size - window]


@torch.no_grad()
def slide(model, image, view=None, *, window, stride, batch=8) -> Tensor:
    """(3, H, W) in 0..255, (3, S, S) for a view or None -> (C, h, w) scores, means over windows.

    Args:
        model: a Segmentor; the grid of the result has a cell per `cell_of(model)` pixels.
        window, stride: pixels, rounded up to whole cells.
        batch: windows at a time, which bounds the memory.
    """
    cell = cell_of(model)
    window, stride = (math.ceil(pixels / cell) for pixels in (window, stride))  # in cells
    height, width = (math.ceil(side / cell) for side in image.shape[1:])
    padding = (0, width * cell - image.shape[2], 0, height * cell - image.shape[1])
    image = F.pad(image.float()[None], padding, mode='replicate')[0]
    places = [(y, x) for y in starts(height, window, stride) for x in starts(width, window, stride)]
    tall, wide = min(window, height), min(window, width)
    total, count = None, image.new_zeros(height, width)
    for first in range(0, len(places), batch):
        part = places[first : first + batch]
        crops = [crop(image, y * cell, x * cell, tall * cell, wide * cell) for y, x in part]
        views = None if view is None else view[None].expand(len(part), *view.shape)
        scores = model.scores(torch.stack(crops), views)
        scores = F.interpolate(scores, (tall, wide), mode='bilinear', align_corners=False)
        if total is None:
            total = scores.new_zeros(scores.shape[1], height, width)
        for score, (y, x) in zip(scores, part):
            crop(total, y, x, tall, wide).add_(score)
            crop(count, y, x, tall, wide).add_(1)
    return total / count


def crop(maps, top, left, height, width):
    """(..., H, W) -> (..., height, width), a view"""
    return maps[..., top : top + height, left : left + width]


def cell_of(model):
    """Pixels of the input per cell of windowed scores."""
    return model.score_stride or 8
