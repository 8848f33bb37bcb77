"""Sliding windows: inputs in pieces of one size, many at a time, and their mean.

Windows lie on a grid of rows and columns, so that the mean over those that hold a pixel is
separable, as bilinear resizing is. The scores of all windows, side by side, are therefore all that
is kept of a photo: two small matrices read the mean out of them, anywhere.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import kept_on_device

from .postprocess import bilinear_matrix, reading_matrix, resize

CELL = 8  # pixels per cell of windowed scores where a network has no stride of its own


@dataclass(frozen=True)
class Windows:
    """Square windows every `stride` pixels, the last of a row or column moved back inside.

    Attributes:
        size, stride: pixels of the input; where it is smaller, so is the window.
        batch: windows that go through the network together, of whatever photos: it bounds the
            memory.

    Raises:
        UserError: no whole numbers above 0, or a stride that leaves gaps.
    """

    size: int
    stride: int
    batch: int = 16

    def __post_init__(self):
        for name in ('size', 'stride', 'batch'):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f'windows.{name} is a whole number above 0, not {value!r}')
        if self.stride > self.size:
            raise UserError(
                f'windows.stride {self.stride} is larger than the window of {self.size} pixels: '
                'pixels between windows would have no score'
            )

    def require_patch(self, pixels):
        """Refuse windows smaller than the network's patch of so many pixels."""
        if self.size < pixels:
            raise UserError(
                f'windows.size is {self.size} pixels, less than a patch of {pixels}; use windows '
                f'of at least {pixels}, such as 224'
            )

    def starts(self, pixels) -> list[int]:
        return starts(pixels, self.size, self.stride)

    def matrix(self, at, pixels, cells, stride) -> Tensor:
        """(n) places in pixels -> (n, cells) float64: the mean of the windows that hold a place.

        Args:
            pixels: of the input, along this axis.
            cells: of all windows along this axis, side by side.
            stride: pixels per cell; None where a window's cells span it.
        """
        begin, window = self.starts(pixels), min(self.size, pixels)
        own = cells // len(begin)
        step = 1 / stride if stride else own / window
        blocks = []
        for start in begin:
            inside = (at + 0.5 >= start) & (at + 0.5 < start + window)
            blocks.append(reading_matrix((at - start + 0.5) * step - 0.5, own) * inside[:, None])
        matrix = torch.cat(blocks, dim=1)
        return matrix / matrix.sum(dim=1, keepdim=True)


def starts(size, window, stride) -> list[int]:
    """Where windows begin so that they cover `size`: 0, stride, ..., the last one flush."""
    if size <= window:
        return [0]
    return [*range(0, size - window, stride), size - window]


def window_scores(run, refine, images, seen, windows) -> list[Tensor]:
    """[(3, H_i, W_i)] -> [(Q, m_i, n_i)]: the scores of each photo's windows, side by side.

    Windows of one shape share passes, whatever photos they are of. A photo is refined once, as soon
    as all its windows are through.

    Args:
        run: (N, 3, h, w) windows and their rows of `seen` -> (N, Q, h', w') scores, and (N, ...)
            what `refine` needs besides or None.
        refine: both, of all W windows of a photo -> (W, Q, h', w') scores.
        seen: a tensor for each photo that its windows share, or None.
    """
    jobs, columns, totals = defaultdict(list), [], []
    for i, image in enumerate(images):
        tops, lefts = (windows.starts(side) for side in image.shape[1:])
        shape = tuple(min(windows.size, side) for side in image.shape[1:])
        jobs[shape] += [(i, top, left) for top in tops for left in lefts]
        columns.append(len(lefts))
        totals.append(len(tops) * len(lefts))
    parts, found = defaultdict(list), [None] * len(images)
    for shape, places in jobs.items():
        for first in range(0, len(places), windows.batch):
            part = places[first : first + windows.batch]
            crops = torch.stack([crop(images[i], top, left, *shape) for i, top, left in part])
            context = None if seen is None else torch.stack([seen[i] for i, _, _ in part])
            scores, besides = run(crops, context)
            for k, (i, _, _) in enumerate(part):
                parts[i].append((scores[k], None if besides is None else besides[k]))
                if len(parts[i]) == totals[i]:
                    found[i] = _side_by_side(refine(*_stacked(parts.pop(i))), columns[i])
    return found


def _stacked(pairs):
    """[((Q, h, w), (...) or None)] of W windows -> (W, Q, h, w), (W, ...) or None"""
    scores, besides = zip(*pairs)
    return torch.stack(scores), None if besides[0] is None else torch.stack(besides)


def _side_by_side(scores, columns):
    """(W, Q, h, w) row by row -> (Q, rows * h, columns * w)"""
    grid = scores.unflatten(0, (-1, columns))  # (rows, columns, Q, h, w)
    return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)


def photo_window_matrices(maps, photo_size, *, input_size, stride, windows):
    """(Q, m, n) of `window_scores` -> (H, m), (W, n): the mean at the input's size, then resized"""
    return [
        _photo_matrix(maps.device, photo, pixels, cells, stride, windows)
        for cells, pixels, photo in zip(maps.shape[1:], input_size, photo_size)
    ]


@kept_on_device  # photos of a data set share a few sizes
def _photo_matrix(photo, pixels, cells, stride, windows):
    """sizes of one axis -> (photo, cells) float32"""
    places = torch.arange(pixels, dtype=torch.float64)
    matrix = windows.matrix(places, pixels, cells, stride)
    if photo != pixels:
        matrix = bilinear_matrix(photo, pixels) @ matrix
    return matrix.float()


def mean_on_grid(maps, *, input_size, stride, windows) -> Tensor:
    """(Q, m, n) of `window_scores` -> (Q, h, w): the mean at the centres of the input's cells"""
    matrices = [
        _grid_matrix(maps.device, pixels, cells, stride, windows)
        for cells, pixels in zip(maps.shape[1:], input_size)
    ]
    return resize(maps, *matrices)


@kept_on_device
def _grid_matrix(pixels, cells, stride, windows):
    """sizes of one axis -> (ceil(pixels / cell), cells) float32"""
    cell = stride or CELL
    centres = torch.arange(-(-pixels // cell), dtype=torch.float64) * cell + (cell - 1) / 2
    return windows.matrix(centres.clamp_max(pixels - 1), pixels, cells, stride).float()


def crop(maps, top, left, height, width):
    """(..., H, W) -> (..., height, width), a view"""
    return maps[..., top : top + height, left : left + width]


def cell_of(model):
    """Pixels of the input per cell of windowed scores."""
    return model.score_stride or CELL
