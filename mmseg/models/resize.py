"""Resize logits from the grid of an input, or of its windows, to the photo.

Bilinear resizing is linear and separable, so two small matrices, one per axis, describe it.
Windows lie on rows and columns, so the mean over the windows that cover a pixel is separable too.
Resizing twice, or after that mean, is a product of matrices. They give row chunks of the photo, so
logits never exist as a whole at its size.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import Count, require_fields
from mmseg.utils.tensors import kept_on_device

CPU_ROWS = 16  # rows of the photo in a chunk on CPUs: with 59 classes it fits a core's cache
CHUNK = 2**25  # logits in a chunk on accelerators (128 MiB): few and large steps
CELL = 8  # pixels per cell of windowed logits if the network has no stride

# Windows

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
    context: Tensor | None,
    windows: Windows | None,
) -> list[Tensor]:
    """Run a network on the windows of images: [(3, H_i, W_i)] -> [(Q, m_i, n_i)] side by side.

    Windows of one shape share passes, also across images. An image is refined as soon as the last
    of its windows is through.

    Args:
        step: run a batch of windows, see `WindowStep`.
        refine: refine all windows of an image together, see `RefineStep`.
        context: (N, ...) of the images, each shared by all its windows.
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


# Resizing


def photo_matrices(
    logits: Tensor,
    photo_size: Sequence[int],
    *,
    input_size: Sequence[int],
    stride: int | None,
    twice: bool = False,
    windows: Windows | None = None,
) -> list[Tensor]:
    """Build the matrices that resize a grid to the photo: (Q, h, w) -> (H, h), (W, w) float32.

    Args:
        input_size: (H, W) of the network's input before any padding.
        stride: pixels of the input per cell; None if the grid spans the input.
        twice: as the original (Q15): stretch the grid over the input as if nothing had been padded,
            resize to the input's size, and from there to the photo's.
        windows: the grid is that of `tiled_logits`; its mean at the input's size is resized.
    """
    return [
        _photo_matrix(logits.device, photo, pixels, cells, stride, twice, windows)
        for cells, pixels, photo in zip(logits.shape[1:], input_size, photo_size)
    ]


@kept_on_device  # photos of a data set share a few sizes
def _photo_matrix(
    photo: int, pixels: int, cells: int, stride: int | None, twice: bool, windows: Windows | None
) -> Tensor:
    """sizes along one axis -> (photo, cells) float32"""
    if windows is not None:
        matrix = windows.matrix(_range(pixels), pixels, cells, stride)
        matrix = matrix if photo == pixels else bilinear_matrix(photo, pixels) @ matrix
    elif twice:
        matrix = bilinear_matrix(photo, pixels) @ bilinear_matrix(pixels, cells)
    else:
        step = pixels / (stride * photo) if stride else None
        matrix = bilinear_matrix(photo, cells, step=step)
    return matrix.float()


def bilinear_matrix(size: int, cells: int, *, step: float | None = None) -> Tensor:
    """Build (size, cells) float64: row i holds the weights of the cells that pixel i reads.

    As F.interpolate with align_corners=False.

    Args:
        step: cells per pixel; the default, cells / size, spreads the cells over all pixels. A grid
            that was padded extends beyond the photo: a smaller step.
    """
    return linear_weights((_range(size) + 0.5) * (step or cells / size) - 0.5, cells)


def mean_on_grid(
    logits: Tensor, *, input_size: Sequence[int], stride: int | None, windows: Windows
) -> Tensor:
    """Average windows at the centres of the input's cells: (Q, m, n) -> (Q, h, w)"""
    matrices = [
        _grid_matrix(logits.device, pixels, cells, stride, windows)
        for cells, pixels in zip(logits.shape[1:], input_size)
    ]
    return resize(logits, *matrices)


@kept_on_device
def _grid_matrix(pixels: int, cells: int, stride: int | None, windows: Windows) -> Tensor:
    """sizes along one axis -> (ceil(pixels / cell), cells) float32"""
    cell = stride or CELL
    centres = _range(-(-pixels // cell)) * cell + (cell - 1) / 2
    return windows.matrix(centres.clamp_max(pixels - 1), pixels, cells, stride).float()


def _range(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float64)


def resize(logits: Tensor, down: Tensor | None = None, across: Tensor | None = None) -> Tensor:
    """Compute `down @ logits @ across.T`: (Q, h, w), (H, h), (W, w) -> (Q, H, W)

    Without matrices the logits have the photo's size already.
    """
    logits = logits.float()
    if down is None or across is None:
        return logits
    return _product(down.to(logits), _product(logits, across.to(logits).T))


def row_chunks(
    logits: Tensor, down: Tensor | None = None, across: Tensor | None = None, rows: int = CPU_ROWS
) -> Iterator[Tensor]:
    """Yield the rows of `resize` from the top down, as (R, Q, W).

    Args:
        down, across: None for logits that have the photo's size already.
        rows: of the photo in a chunk on CPUs.
    """
    logits = logits.float()
    if down is None or across is None:
        yield from (part.transpose(0, 1) for part in logits.split(rows, dim=1))
        return
    down, across = down.to(logits), across.to(logits)
    wide = _product(logits, across.T).transpose(0, 1).flatten(1)  # (h, Q * W)
    for part, cells in matrix_chunks(down, wide.shape[1], rows):
        yield _product(part, wide[cells]).unflatten(1, (len(logits), len(across)))


def matrix_chunks(down: Tensor, width: int, rows: int = CPU_ROWS) -> Iterator[tuple[Tensor, slice]]:
    """Split the rows of a matrix (H, h): yield (R, cells) and the slice of h that they read.

    Args:
        width: numbers in a row of the result, Q * W.
    """
    on_cpu = down.device.type == 'cpu'
    for part in down.split(rows if on_cpu else max(1, CHUNK // width)):
        cells = slice(None)  # an accelerator would wait for the columns
        if on_cpu:
            columns = part.any(dim=0).nonzero().flatten()
            cells = slice(int(columns[0]), int(columns[-1]) + 1)
        yield part[:, cells], cells


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in their own precision, within autocast too"""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
