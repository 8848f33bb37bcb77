"""Low-resolution class scores -> a label map, without ever holding all scores at full size.

Bilinear resizing is linear and separable: two small matrices say all of it, resizing twice in a
row is their product, and slab after slab of the photo comes out of one matrix product.
"""

from functools import lru_cache

import torch
from torch import Tensor

ROWS = 16  # rows of the photo at a time on CPUs: with 59 classes a slab fits a core's cache
SLAB = 2**25  # scores at a time elsewhere (128 MiB): few and large steps


def labels_at_photo_size(scores, photo_size, *, input_size, stride, twice=False) -> Tensor:
    """(C, h, w) -> (H, W) labels of the photo.

    Args:
        input_size: (H, W) of the network's input before any padding.
        stride: pixels of the input per grid cell; None where the grid spans the input.
        twice: as the original (Q15): stretch the grid over the input as if nothing had been padded,
            resize to the input's size, and from there to the photo's.
    """
    maps = (
        _map(photo, pixels, cells, stride, twice, scores.device)
        for cells, pixels, photo in zip(scores.shape[1:], input_size, photo_size)
    )
    return resize_argmax(scores, *maps)


@lru_cache(maxsize=64)  # photos of a data set share a few sizes
@torch.inference_mode(False)
def _map(photo, pixels, cells, stride, twice, device):
    """sizes of one axis -> (photo, cells) float32"""
    if twice:
        matrix = bilinear_matrix(photo, pixels) @ bilinear_matrix(pixels, cells)
    else:
        step = pixels / (stride * photo) if stride else None
        matrix = bilinear_matrix(photo, cells, step=step)
    return matrix.to(device, torch.float32)


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
    with torch.autocast(scores.device.type, enabled=False):
        return _resize_argmax(scores.float(), down, across)


def _resize_argmax(scores, down, across):
    down, across = down.to(scores), across.to(scores)
    wide = (scores @ across.T).transpose(0, 1).flatten(1)  # (h, C * W)
    labels = torch.empty(
        len(down),
        len(across),
        device=scores.device,
        dtype=torch.uint8 if len(scores) <= 256 else torch.int16,
    )
    on_cpu = scores.device.type == 'cpu'
    rows = ROWS if on_cpu else max(1, SLAB // wide.shape[1])
    for slab, part in zip(labels.split(rows), down.split(rows)):
        cells = _read_cells(part) if on_cpu else slice(None)  # which an accelerator would wait for
        full = part[:, cells] @ wide[cells]
        full = full.unflatten(1, (len(scores), len(across)))  # (rows, C, W)
        slab.copy_(full.max(dim=1).indices)
    return labels


def _read_cells(part):
    """(rows, h) -> slice of the columns outside which it is 0"""
    columns = part.any(dim=0).nonzero().flatten()
    return slice(int(columns[0]), int(columns[-1]) + 1)
