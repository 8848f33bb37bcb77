"""From the scores of queries to labels: the one place where synonyms and thresholds act."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import count_unasked, index_of, require_number

from .refine import LOGIT_SCALE
from .upsample import label_type, row_chunks

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
