"""Pseudo-labels of a teacher, for pixels without an annotation (-1). No other pixel changes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg.structures import UNLABELED
from mmseg.utils.tensors import index_of

from .fused_cross_entropy import target_row_chunks
from .postprocess import confidence
from .refine.denoise import LOGIT_SCALE


def fill_unlabeled(
    target: Tensor,
    logits: Tensor,
    candidates: Sequence[int] | None = None,
    *,
    threshold: float = 0.0,
    scale: float | None = LOGIT_SCALE,
    with_confidence: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Label pixels by the teacher's best class: (N, H, W), (N, C, h, w) -> (N, H, W), confidence.

    Args:
        target: labels, -1 for unlabelled. It is not edited.
        logits: the teacher's, of any resolution.
        candidates: ids of the classes that a pixel may get; None for all.
        threshold: pixels whose best probability among the candidates is lower stay at -1.
        scale: probabilities are softmax(scale * logits): 100 for cosines, 1 for a student's
            logits, None for logits that are probabilities.
        with_confidence: also return that probability (N, H, W), 1 for labelled pixels; else None.
    """
    ids = None
    if candidates is not None:
        ids = index_of(target.device, *candidates)
        logits = logits[:, ids]
    labels, probabilities = [], []
    for image_logits in logits:
        for chunk in target_row_chunks(image_logits, target.shape[1:]):  # (R, C, W)
            best, label = chunk.max(dim=1)
            label = label if ids is None else ids[label]
            if threshold > 0 or with_confidence:
                probability = confidence(chunk, best, scale)
                probabilities.append(probability)
                if threshold > 0:
                    label = label.where(probability >= threshold, UNLABELED)
            labels.append(label)
    unlabeled = target == UNLABELED
    filled = torch.cat(labels).view(target.shape).to(target.dtype).where(unlabeled, target)
    if not with_confidence:
        return filled, None
    return filled, torch.cat(probabilities).view(target.shape).where(unlabeled, 1.0)


def fill_from(
    target: Tensor,
    labels: Tensor,
    confidence: Tensor | None = None,
    candidates: Sequence[int] | None = None,
    *,
    threshold: float = 0.0,
) -> Tensor:
    """Label pixels by stored labels: (N, H, W), (N, H, W) -> (N, H, W)

    Args:
        target: see `fill_unlabeled`.
        labels: ids of classes, or the ignored label.
        confidence: (N, H, W) in 0..1; pixels below `threshold` stay at -1. None if unknown.
        candidates: see `fill_unlabeled`; pixels with other labels stay at -1.
    """
    labels = labels.to(target.dtype)
    if candidates is not None:
        allowed = index_of(labels.device, *sorted(candidates))
        nearest = torch.searchsorted(allowed, labels.long()).clamp_max(len(allowed) - 1)
        labels = labels.where(allowed[nearest] == labels, UNLABELED)
    if threshold > 0 and confidence is not None:
        labels = labels.where(confidence >= threshold, UNLABELED)
    return labels.where(target == UNLABELED, target)
