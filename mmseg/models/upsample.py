"""Low-resolution class scores -> a label map, without ever holding all scores at full size.

Bilinear resizing is linear and separable: two small matrices say all of it, resizing twice in a
row is their product, and slab after slab of the photo comes out of one matrix product.
"""

import torch
from torch import Tensor

ROWS = 16  # rows of the photo at a time: with 59 classes a slab fits a core's cache


def labels_at_photo_size(scores, photo_size, *, input_size, stride, twice=False) -> Tensor:
    """(C, h, w) -> (H, W) labels of the photo.

    Args:
        input_size: (H, W) of the network's input before any padding.
        stride: pixels of the input per grid cell; None where the grid spans the input.
        twice: as the original (Q15): stretch the grid over the input as if nothing had been padded,
            resize to the input's size, and from there to the photo's.
    """
    maps = []
    for cells, pixels, photo in zip(scores.shape[1:], input_size, photo_size):
        if twice:
            maps.append(bilinear_matrix(photo, pixels) @ bilinear_matrix(pixels, cells))
        else:
            step = pixels / (stride * photo) if stride else None
            maps.append(bilinear_matrix(photo, cells, step=step))
    return resize_argmax(scores, *maps)


def bilinear_matrix(size, cells, *, step=None) -> Tensor:
    """(size, cells) float64: row i mixes the cells that pixel i reads (align_corners=False).

    Args:
        step: cells per pixel; default cells / size, all cells over all pixels. A grid that was
            padded reaches beyond the photo: a smaller step.
    """
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * (step or cells / size) - 0.5
    at = at.clamp(0, cells - 1)
    first = at.floor().long()
    pixel, share = torch.arange(size), at - first
    matrix = torch.zeros(size, cells, dtype=torch.float64)
    matrix[pixel, first] = 1 - share
    matrix[pixel, (first + 1).clamp_max(cells - 1)] += share
    return matrix


def resize_argmax(scores, down, across) -> Tensor:
    """(C, h, w), (H, h), (W, w) -> (H, W): the best class of `down @ scores @ across.T`.

    Returns:
        uint8 for up to 256 classes, int16 beyond.
    """
    scores = scores.float()
    down, across = down.to(scores), across.to(scores)
    wide = (scores @ across.T).transpose(0, 1).flatten(1)  # (h, C * W)
    labels = torch.empty(
        len(down),
        len(across),
        device=scores.device,
        dtype=torch.uint8 if len(scores) <= 256 else torch.int16,
    )
    for slab, rows in zip(labels.split(ROWS), down.split(ROWS)):
        full = (rows @ wide).unflatten(1, (len(scores), len(across)))  # (rows, C, W)
        slab.copy_(full.max(dim=1).indices)
    return labels
