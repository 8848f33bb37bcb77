"""From per-query logits to labels: synonyms, thresholds, confidence."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from mmseg.errors import UserError
from mmseg.utils import Fraction, require_fields
from mmseg.utils.tensors import bincount, index_of

from .refine.denoise import LOGIT_SCALE
from .resize import row_chunks

Scale = Annotated[float, Interval(ge=1e-4, le=1e6)]  # beyond it, logits become 0 or infinity


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
    """Turn the logits of queries (prompts) into labels of classes.

    Attributes:
        groups: (Q) class of each query, ascending; None if every query is a class.
        background: id of the class for pixels that show no other; None if there is none.
        scale: probabilities are softmax(scale * logits) over the queries; labels do not depend on
            it. None if logits are probabilities.
        prob_thd: pixels whose best probability is lower become background; 0 for none.
        area_thd: a class with no larger share of the pixels that are not background loses them,
            each to its best remaining class; 0 for none. Background keeps its pixels.

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
                    f"called 'background'; set it to 0, or use one with it, such as voc_21"
                )

    def by_class(self, logits: Tensor) -> Tensor:
        """Take the best query of each class: (..., Q, h, w) -> (..., C, h, w)"""
        if self.groups is None:
            return logits
        sizes = list(Counter(self.groups).values())  # in the order of the classes
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
            chunks = self._best(logits, down, across)
            counts = [bincount(label.flatten(), len(logits)) for label, _, _ in chunks]
            dropped = self._too_small(torch.stack(counts).sum(dim=0))
        classes = len(logits) if self.groups is None else max(self.groups) + 1
        dtype = torch.uint8 if classes <= 256 else torch.int16
        labels = []
        for label, best, chunk in self._best(logits, down, across, dropped):
            if self.prob_thd and self.background is not None:
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
        """Compute the probability of labels: (H, W), logits as in `labels` -> (H, W) float32

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
