"""Sliding windows: images in pieces of one size, many in a pass, and the mean of their logits.

Windows lie on a grid of rows and columns. The mean over the windows that cover a pixel is therefore
separable, as bilinear resizing is: one matrix for the rows, one for the columns. Only the logits of
all windows, side by side, are kept.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import Count, require_fields

# A batch of windows (B, 3, h, w), its context (B, ...) -> logits (B, Q, h', w'), keys (B, ...)
WindowStep = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
# All windows of an image: logits (W, Q, h', w'), keys (W, ...) -> logits (W, Q, h', w')
RefineStep = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Windows:
    """Square windows every `stride` pixels; the last of a row or column is moved back inside.

    Attributes:
        size: pixels of a side; a smaller image has a smaller window.
        stride: pixels from one window to the next.
        batch: windows in a pass through the network. It bounds the memory.

    Raises:
        UserError: a value that is no whole number above 0, or a stride that leaves gaps.
    """

    size: Count
    stride: Count
    batch: Count = 16

    def __post_init__(self) -> None:
        require_fields('windows', self)
        if self.stride > self.size:
            raise UserError(
                f'windows.stride {self.stride} is larger than the window of {self.size} pixels: '
                'pixels between windows would have no score'
            )

    def require_patch(self, pixels: int) -> None:
        """Raise a UserError for windows smaller than the network's patch of so many pixels."""
        if self.size < pixels:
            raise UserError(
                f'windows.size is {self.size} pixels, less than a patch of {pixels}; use windows '
                f'of at least {pixels}, such as 224'
            )

    def starts(self, pixels: int) -> list[int]:
        """Return where windows begin along a side: 0, stride, ..., and the last one flush."""
        if pixels <= self.size:
            return [0]
        return [*range(0, pixels - self.size, self.stride), pixels - self.size]

    def matrix(self, positions: Tensor, pixels: int, cells: int, stride: int | None) -> Tensor:
        """Average the windows that cover each position: (n) in pixels -> (n, cells) float64.

        Args:
            pixels: length of the image along this axis.
            cells: of all windows along this axis, side by side.
            stride: pixels per cell; None if a window's cells span the window.
        """
        starts, window = self.starts(pixels), min(self.size, pixels)
        window_cells = cells // len(starts)
        step = 1 / stride if stride else window_cells / window
        blocks = []
        for start in starts:
            covered = (positions + 0.5 >= start) & (positions + 0.5 < start + window)
            weights = linear_weights((positions - start + 0.5) * step - 0.5, window_cells)
            blocks.append(weights * covered[:, None])
        matrix = torch.cat(blocks, dim=1)
        return matrix / matrix.sum(dim=1, keepdim=True)


def linear_weights(positions: Tensor, cells: int) -> Tensor:
    """Interpolate linearly between cells: (n) positions, cell centres at 0, 1, ... -> (n, cells)"""
    positions = positions.clamp(0, cells - 1)
    left = positions.floor().long()
    rows, right_weight = torch.arange(len(positions)), positions - left
    matrix = torch.zeros(len(positions), cells, dtype=torch.float64)
    matrix[rows, left] = 1 - right_weight
    matrix[rows, (left + 1).clamp_max(cells - 1)] += right_weight
    return matrix


def tiled_logits(
    step: WindowStep,
    refine: RefineStep,
    images: Sequence[Tensor],
    context: Sequence[Tensor] | None,
    windows: Windows | None,
) -> list[Tensor]:
    """Run a network on the windows of images: [(3, H_i, W_i)] -> [(Q, m_i, n_i)] side by side.

    Windows of one shape share passes, also across images. An image is refined as soon as the last
    of its windows is through.

    Args:
        step: run a batch of windows, see `WindowStep`.
        refine: refine all windows of an image together, see `RefineStep`.
        context: what all windows of an image share, one tensor per image.
        windows: None for each image as one window, all of one shape in one pass.
    """
    jobs: dict[tuple[int, ...], list[tuple[int, int, int]]] = defaultdict(list)
    columns, totals = [], []
    for i, image in enumerate(images):
        height, width = image.shape[1:]
        tops, lefts = [0], [0]
        if windows is not None:
            tops, lefts = windows.starts(height), windows.starts(width)
            height, width = min(windows.size, height), min(windows.size, width)
        jobs[height, width] += [(i, top, left) for top in tops for left in lefts]
        columns.append(len(lefts))
        totals.append(len(tops) * len(lefts))
    waiting: dict[int, list[tuple[Tensor, Tensor | None]]] = defaultdict(list)
    results: dict[int, Tensor] = {}
    for (height, width), corners in jobs.items():
        batch = windows.batch if windows is not None else len(corners)
        for first in range(0, len(corners), batch):
            part = corners[first : first + batch]
            crops = [images[i][:, y : y + height, x : x + width] for i, y, x in part]
            shared = None if context is None else torch.stack([context[i] for i, _, _ in part])
            logits, keys = step(torch.stack(crops), shared)
            for k, (i, _, _) in enumerate(part):
                waiting[i].append((logits[k], None if keys is None else keys[k]))
                if len(waiting[i]) == totals[i]:
                    results[i] = side_by_side(refine(*_stacked(waiting.pop(i))), columns[i])
    return [results[i] for i in range(len(images))]


def _stacked(pairs: list[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """[((Q, h, w), (...) or None)] of W windows -> (W, Q, h, w), (W, ...) or None"""
    keys = [key for _, key in pairs if key is not None]
    return torch.stack([logits for logits, _ in pairs]), torch.stack(keys) if keys else None


def side_by_side(logits: Tensor, columns: int) -> Tensor:
    """Lay out windows, row by row: (W, Q, h, w) -> (Q, rows * h, columns * w)"""
    grid = logits.unflatten(0, (-1, columns))  # (rows, columns, Q, h, w)
    return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
