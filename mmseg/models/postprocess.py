"""From per-query logits to labels: resizing, synonyms, thresholds, confidence.

Bilinear resizing is linear and separable, so two small matrices, one per axis, describe it.
Resizing twice, or taking the mean over windows first, is a product of matrices. Labels come from
row chunks of the photo, so that the logits never exist as a whole at the photo's size.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import Fraction, require_fields
from mmseg.utils.tensors import bincount, index_of, kept_on_device

from .refine.denoise import LOGIT_SCALE
from .windows import Windows, linear_weights

CPU_ROWS = 16  # rows of the photo in a chunk on CPUs: with 59 classes it fits a core's cache
CHUNK = 2**25  # logits in a chunk on accelerators (128 MiB): few and large steps
CELL = 8  # pixels per cell of windowed logits if the network has no stride of its own
Scale = Annotated[float, Interval(ge=1e-4, le=1e6)]  # beyond it, logits become 0 or infinity


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


def resize(logits: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Compute `down @ logits @ across.T`: (Q, h, w), (H, h), (W, w) -> (Q, H, W)"""
    logits = logits.float()
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


# Labels and confidence


def confidence(logits: Tensor, chosen: Tensor, scale: float | None) -> Tensor:
    """Compute the probability of a label: (R, Q, W), (R, W) its logit -> (R, W).

    Args:
        scale: softmax(scale * logits) over the queries; None if the logits are probabilities.
    """
    if scale is None:
        return chosen
    return 1 / (logits - chosen[:, None]).mul_(scale).exp_().sum(dim=1)


@dataclass(frozen=True)
class Scoring:
    """How the logits of queries (prompts) become the labels of classes.

    Attributes:
        groups: (Q) class of each query, ascending; None if every query is a class.
        background: id of the class for pixels that show no other; None if there is none.
        scale: probabilities are softmax(scale * logits) over the queries; labels do not depend on
            it. None if logits are probabilities.
        prob_thd: pixels whose best probability is lower become background; 0 for none.
        area_thd: a class with no larger share of the pixels that are not background loses them,
            each to the best class that is left; 0 for none. Background never loses any.

    Raises:
        UserError: a value out of range, or a threshold without a background.
    """

    groups: tuple[int, ...] | None = None
    background: int | None = None
    scale: Scale | None = LOGIT_SCALE
    prob_thd: Fraction = 0.0
    area_thd: Fraction = 0.0

    def __post_init__(self) -> None:
        require_fields('scoring', self)
        for name in ('prob_thd', 'area_thd'):
            if getattr(self, name) and self.background is None:
                raise UserError(
                    f'scoring.{name} makes background of pixels, but the vocabulary has no class '
                    f"called 'background'; leave it 0, or use one that has, such as voc_21"
                )

    def num_classes(self, queries: int) -> int:
        """Return the number of classes of so many queries."""
        return queries if self.groups is None else max(self.groups) + 1

    def by_class(self, logits: Tensor) -> Tensor:
        """Take the best query of each class: (..., Q, h, w) -> (..., C, h, w)"""
        if self.groups is None:
            return logits
        counts = Counter(self.groups)
        sizes = [counts[c] for c in range(self.num_classes(len(self.groups)))]
        return torch.stack([part.amax(dim=-3) for part in logits.split(sizes, dim=-3)], dim=-3)

    def labels(
        self, logits: Tensor, down: Tensor | None = None, across: Tensor | None = None
    ) -> Tensor:
        """Label a photo: (Q, h, w) and `photo_matrices`, or (Q, H, W) without -> (H, W)

        Returns:
            uint8 for up to 256 classes, int16 beyond.
        """
        dropped = None
        if self.area_thd:
            counts = sum(
                bincount(label.flatten(), len(logits))
                for label, _, _ in self._best(logits, down, across)
            )
            dropped = self._too_small(counts)
        dtype = torch.uint8 if self.num_classes(len(logits)) <= 256 else torch.int16
        labels = []
        for label, best, chunk in self._best(logits, down, across, dropped):
            if self.prob_thd:
                unsure = confidence(chunk, best, self.scale) < self.prob_thd
                label = label.masked_fill(unsure, self.background)
            labels.append(label.to(dtype))
        return torch.cat(labels)

    def confidence(
        self,
        labels: Tensor,
        logits: Tensor,
        down: Tensor | None = None,
        across: Tensor | None = None,
    ) -> Tensor:
        """Compute the probability of given labels: (H, W), logits as in `labels` -> (H, W) float32

        A class has the probability of its best query.
        """
        rows, first = [], 0
        for chunk in row_chunks(logits, down, across):
            label = labels[first : first + len(chunk), None].long()  # (R, 1, W)
            first += len(chunk)
            by_class = self.by_class(chunk.transpose(0, 1)).transpose(0, 1)
            rows.append(confidence(chunk, by_class.gather(1, label)[:, 0], self.scale))
        return torch.cat(rows)

    def _best(
        self,
        logits: Tensor,
        down: Tensor | None,
        across: Tensor | None,
        dropped: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for each row chunk the best class (R, W), its logit (R, W), the logits (R, Q, W).

        Args:
            dropped: (C) bool, classes that no pixel may get.
        """
        groups = None if self.groups is None else index_of(logits.device, *self.groups)
        if dropped is not None and groups is not None:
            dropped = dropped[groups]
        for chunk in row_chunks(logits, down, across):
            allowed = chunk
            if dropped is not None:
                allowed = chunk.masked_fill(dropped[: chunk.shape[1], None], -torch.inf)
            best, query = allowed.max(dim=1)
            yield query if groups is None else groups[query], best, chunk

    def _too_small(self, counts: Tensor) -> Tensor:
        """(C) pixels -> (C) bool: at most `area_thd` of the pixels that are not background"""
        counts = counts.clone()
        counts[self.background].zero_()
        small = counts <= self.area_thd * counts.sum()
        small[self.background].fill_(False)
        return small


# Logits that are no numbers


def checksum(logits: Tensor) -> Tensor:
    """Sum logits of any shape: finite if all of them are. Nothing waits for the device."""
    return logits.sum(dtype=torch.float32)


def require_finite_scores(total: Tensor, photo: str = 'a photo') -> None:
    """Read a `checksum`, which waits for the device.

    Raises:
        UserError: logits were NaN or infinite, so that their labels would mean nothing.
    """
    if not total.isfinite():
        raise UserError(
            f'the scores of {photo} are NaN or infinite, so its labels would mean nothing: weights '
            'or settings are too large for this precision; try --precision fp32, or other weights'
        )
