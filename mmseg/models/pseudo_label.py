"""Targets from a teacher: the only pixels that change are those nobody labelled."""

import torch
from torch import Tensor

from mmseg.structures import UNLABELED
from mmseg.utils import index_of

from .losses import resized_row_chunks


def fill_unlabeled(target, scores, candidates=None, *, threshold=0.0, scale=100.0) -> Tensor:
    """(N, H, W), (N, C, h, w) -> (N, H, W): pixels at -1 take the teacher's best class.

    Args:
        target: labels; -1 unlabelled. It is not edited.
        scores: the teacher's, of any resolution.
        candidates: ids of the classes that may be given; None for all.
        threshold: pixels whose best probability, among the candidates, is below it stay at -1.
        scale: probabilities are softmax(scale * scores); 100 is for cosines, 1 for a student's
            logits, None for scores that are probabilities.
    """
    ids = None
    if candidates is not None:
        ids = index_of(target.device, *candidates)
        scores = scores[:, ids]
    label = torch.stack([_best(one, target.shape[1:], ids, threshold, scale) for one in scores])
    return label.to(target.dtype).where(target == UNLABELED, target)


def _best(scores, size, ids, threshold, scale):
    """(C, h, w), (H, W), (C) or None -> (H, W): the best class's id, or -1 where it is not sure"""
    labels = []
    for chunk in resized_row_chunks(scores, size):
        best, label = chunk.max(dim=1)
        label = label if ids is None else ids[label]
        if threshold > 0:
            label = label.where(_probability(chunk, best, scale) >= threshold, UNLABELED)
        labels.append(label)
    return torch.cat(labels)


def confidence(target, scores, candidates=None, *, scale=100.0) -> Tensor:
    """(N, H, W), (N, C, h, w) -> (N, H, W) in 0..1: how sure the teacher is of its best class.

    1 where somebody labelled; elsewhere what `threshold` of `fill_unlabeled` looks at, of the same
    arguments.
    """
    if candidates is not None:
        scores = scores[:, index_of(target.device, *candidates)]
    size, rows = target.shape[1:], []
    for one in scores:
        parts = [_probability(s, s.amax(dim=1), scale) for s in resized_row_chunks(one, size)]
        rows.append(torch.cat(parts))
    sure = torch.stack(rows)
    return sure.where(target == UNLABELED, 1.0)


def _probability(scores, best, scale):
    """(R, C, W), (R, W) of the best class -> (R, W): its softmax; with scale None it is one already

    The scores are used up.
    """
    if scale is None:
        return best
    return 1 / scores.sub_(best[:, None]).mul_(scale).exp_().sum(dim=1)


def fill_from(target, labels, confidence=None, candidates=None, *, threshold=0.0) -> Tensor:
    """(N, H, W), (N, H, W) -> (N, H, W): pixels at -1 take labels that were made before.

    Args:
        labels: ids of classes, or of none.
        confidence: (N, H, W) in 0..1; pixels below `threshold` stay at -1. None where unknown.
        candidates: ids of the classes that may be given; other pixels stay at -1. None for all.
    """
    labels = labels.to(target.dtype)
    if candidates is not None:
        allowed = index_of(labels.device, *sorted(candidates))
        place = torch.searchsorted(allowed, labels.long()).clamp_max(len(allowed) - 1)
        labels = labels.where(allowed[place] == labels, UNLABELED)
    if threshold > 0 and confidence is not None:
        labels = labels.where(confidence >= threshold, UNLABELED)
    return labels.where(target == UNLABELED, target)
