"""Low-resolution class scores -> maps at any size, without ever holding all of them at full size.

Bilinear resizing is linear and separable: two small matrices say all of it, resizing twice in a
row is their product, and chunk after chunk of the photo comes out of one matrix product.
"""

import torch
from torch import Tensor

from mmseg.utils import kept_on_device

ROWS = 16  # rows of the photo at a time on CPUs: with 59 classes a chunk fits a core's cache
SLAB = 2**25  # scores at a time elsewhere (128 MiB): few and large steps


def photo_matrices(scores, photo_size, *, input_size, stride, twice=False):
    """(C, h, w) -> (H, h), (W, w): what resizes the grid to the photo's size.

    Args:
        input_size: (H, W) of the network's input before any padding.
        stride: pixels of the input per grid cell; None where the grid spans the input.
        twice: as the original (Q15): stretch the grid over the input as if nothing had been padded,
            resize to the input's size, and from there to the photo's.
    """
    return [
        _photo_matrix(scores.device, photo, pixels, cells, stride, twice)
        for cells, pixels, photo in zip(scores.shape[1:], input_size, photo_size)
    ]


@kept_on_device  # photos of a data set share a few sizes
def _photo_matrix(photo, pixels, cells, stride, twice):
    """sizes of one axis -> (photo, cells) float32"""
    if twice:
        matrix = bilinear_matrix(photo, pixels) @ bilinear_matrix(pixels, cells)
    else:
        step = pixels / (stride * photo) if stride else None
        matrix = bilinear_matrix(photo, cells, step=step)
    return matrix.float()


def bilinear_matrix(size, cells, *, step=None) -> Tensor:
    """(size, cells) float64: row i mixes the cells that pixel i reads (align_corners=False).

    Args:
        step: cells per pixel; default cells / size, all cells over all pixels. A grid that was
            padded reaches beyond the photo: a smaller step.
    """
    pixels = torch.arange(size, dtype=torch.float64)
    return reading_matrix((pixels + 0.5) * (step or cells / size) - 0.5, cells)


def reading_matrix(at, cells) -> Tensor:
    """(n) places on a row of cells, whole numbers at their centres -> (n, cells) float64"""
    at = at.clamp(0, cells - 1)
    first = at.floor().long()
    place, share = torch.arange(len(at)), at - first
    matrix = torch.zeros(len(at), cells, dtype=torch.float64)
    matrix[place, first] = 1 - share
    matrix[place, (first + 1).clamp_max(cells - 1)] += share
    return matrix


def resize(scores, down, across) -> Tensor:
    """(C, h, w), (H, h), (W, w) -> (C, H, W): `down @ scores @ across.T`"""
    scores = scores.float()
    return _product(down.to(scores), _product(scores, across.to(scores).T))


def row_chunks(scores, down=None, across=None, rows=ROWS):
    """(C, h, w), (H, h), (W, w) -> the rows of `resize`, as (rows, C, W), from the top down.

    Args:
        down, across: None for scores that have the photo's size already.
        rows: of the photo at a time on CPUs.
    """
    scores = scores.float()
    if down is None:
        yield from (part.transpose(0, 1) for part in scores.split(rows, dim=1))
        return
    down, across = down.to(scores), across.to(scores)
    wide = _product(scores, across.T).transpose(0, 1).flatten(1)  # (h, C * W)
    for part, cells in matrix_chunks(down, wide.shape[1], rows):
        yield _product(part, wide[cells]).unflatten(1, (len(scores), len(across)))


def matrix_chunks(down, width, rows=ROWS):
    """(H, h) -> yields ((rows, cells) of it, the slice of h outside which these rows are 0)

    Args:
        width: numbers a row of the result holds, C * W.
    """
    on_cpu = down.device.type == 'cpu'
    for part in down.split(rows if on_cpu else max(1, SLAB // width)):
        cells = _read_cells(part) if on_cpu else slice(None)  # which an accelerator would wait for
        yield part[:, cells], cells


def _read_cells(part):
    """(rows, h) -> slice of the columns outside which it is 0"""
    columns = part.any(dim=0).nonzero().flatten()
    return slice(int(columns[0]), int(columns[-1]) + 1)


def _product(a, b):
    """a @ b in their own precision, within autocast too"""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def label_type(num_classes):
    """int -> the smallest type that holds a label"""
    return torch.uint8 if num_classes <= 256 else torch.int16
