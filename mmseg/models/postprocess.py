"""From per-query logits to labels: resizing, synonyms, thresholds, confidence."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import count_unasked, index_of, kept_on_device, require_number

from .refine import LOGIT_SCALE

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


SCALES = (1e-4, 1e6)  # of logits; what lies beyond makes 0 or infinity of them
SYNONYMS = ('mean', 'max')  # of a class's prompts: one mean embedding, or the best query


@dataclass(frozen=True)
class Scoring:
    """What the scores of queries (prompts) mean for labels.

    Attributes:
        groups: (Q) class of each query, ascending; None where every query is a class.
        background: class of what nothing else is found in; None where there is none.
        scale: probabilities are softmax(scale * scores) over the queries; the labels themselves do
            not depend on it. None where scores are probabilities.
        prob_thd: pixels whose best probability is below become background; 0 for none.
        area_thd: classes whose share of the pixels that are not background is not above it lose
            all of them, each to the best that is left; 0 for none. Background never does.

    Raises:
        UserError: a value out of range, or a threshold without a background.
    """

    groups: tuple[int, ...] | None = None
    background: int | None = None
    scale: float | None = LOGIT_SCALE
    prob_thd: float = 0.0
    area_thd: float = 0.0

    def __post_init__(self):
        if self.scale is not None:
            require_number('scoring.scale', self.scale, *SCALES)
        for name in ('prob_thd', 'area_thd'):
            value = getattr(self, name)
            require_number(f'scoring.{name}', value, 0, 1)
            if value and self.background is None:
                raise UserError(
                    f'scoring.{name} makes background of pixels, but the vocabulary has no class '
                    f"called 'background'; leave it 0, or use one that has, such as voc_21"
                )

    def num_classes(self, queries):
        """Number of queries -> of classes"""
        return queries if self.groups is None else max(self.groups) + 1

    def by_class(self, scores) -> Tensor:
        """(..., Q, h, w) -> (..., C, h, w): a class has the best score of its queries"""
        if self.groups is None:
            return scores
        counts = Counter(self.groups)
        sizes = [counts[c] for c in range(self.num_classes(len(self.groups)))]
        return torch.stack([own.amax(dim=-3) for own in scores.split(sizes, dim=-3)], dim=-3)

    def labels(self, scores, down=None, across=None) -> Tensor:
        """(Q, h, w) and matrices to (H, W), or (Q, H, W) without them -> (H, W) labels.

        Returns:
            uint8 for up to 256 classes, int16 beyond.
        """
        lost = None
        if self.area_thd:
            counts = sum(
                count_unasked(label.flatten(), len(scores))
                for label, _ in self._decide(scores, down, across)
            )
            lost = self._too_small(counts)
        kind, labels = label_type(self.num_classes(len(scores))), []
        for label, probability in self._decide(scores, down, across, lost):
            if self.prob_thd:
                label = label.masked_fill(probability() < self.prob_thd, self.background)
            labels.append(label.to(kind))
        return torch.cat(labels)

    def _decide(self, scores, down, across, lost=None):
        """-> of each chunk, from the top down, (rows, W) classes, and what gives their probability

        `lost`: (C) classes that may not be given, or None.
        """
        groups = None if self.groups is None else index_of(scores.device, *self.groups)
        if lost is not None and groups is not None:
            lost = lost[groups]
        for chunk in row_chunks(scores, down, across):
            allowed = chunk
            if lost is not None:
                allowed = chunk.masked_fill(lost[: chunk.shape[1], None], -torch.inf)
            best, query = allowed.max(dim=1)
            label = query if groups is None else groups[query]
            yield label, lambda chunk=chunk, best=best: self._probability(chunk, best)

    def _probability(self, scores, best):
        """(rows, Q, W), (rows, W) scores of the queries that won -> (rows, W)"""
        if self.scale is None:
            return best
        peak = scores.amax(dim=1)
        total = ((scores - peak[:, None]) * self.scale).exp().sum(dim=1)
        return ((best - peak) * self.scale).exp() / total

    def _too_small(self, counts):
        """(C) pixels -> (C) bool"""
        counts = counts.clone()
        counts[self.background].zero_()
        small = counts <= self.area_thd * counts.sum()
        small[self.background].fill_(False)
        return small


def checksum(scores: Tensor) -> Tensor:
    """Scores of any shape -> (): finite where all of them are; nothing waits for the device"""
    return scores.sum(dtype=torch.float32)


def require_finite_scores(total: Tensor, photo: str = 'a photo') -> None:
    """Look at a `checksum`, which waits for the device.

    Raises:
        UserError: scores were NaN or infinite, so that their labels would mean nothing.
    """
    if not total.isfinite():
        raise UserError(
            f'the scores of {photo} are NaN or infinite, so its labels would mean nothing: weights '
            'or settings are too large for this precision; try --precision fp32, or other weights'
        )


def confidence(scoring, labels, scores, down=None, across=None) -> Tensor:
    """(H, W) labels, (Q, h, w) and matrices to (H, W), or (Q, H, W) without -> (H, W) float32.

    A pixel has the softmax over the queries of its own scores, as `Scoring` has for its thresholds,
    and a class the probability of its best query. Where scores are probabilities, so is the result.
    """
    found, first, scale = [], 0, scoring.scale
    for chunk in row_chunks(scores, down, across):
        own = _own(scoring, chunk, labels[first : first + len(chunk)].long())
        if scale is not None:
            own = 1 / (chunk - own).mul_(scale).exp_().sum(dim=1, keepdim=True)
        found.append(own)
        first += len(chunk)
    return torch.cat(found)[:, 0]


def _own(scoring, scores, labels):
    """(rows, Q, W), (rows, W) -> (rows, 1, W): the best score of the queries of each label"""
    if scoring.groups is not None:
        scores = scoring.by_class(scores.transpose(0, 1)).transpose(0, 1)
    return scores.gather(1, labels[:, None])
