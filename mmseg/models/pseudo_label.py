"""Targets from a teacher: the only pixels that change are those nobody labelled."""

import torch
from torch import Tensor

from mmseg.structures import IGNORE, UNLABELED

from .resized import slabs


def fill_unlabeled(target, scores, candidates=None, *, threshold=0.0, scale=100.0) -> Tensor:
    """(N, H, W), (N, C, h, w) -> (N, H, W): pixels at -1 take the teacher's best class.

    Args:
        target: labels; -1 unlabelled, 255 ignored. It is not edited.
        scores: the teacher's, of any resolution.
        candidates: ids of the classes that may be given; None for all.
        threshold: pixels whose best probability, among the candidates, stays below it become 255;
            labelled pixels never do.
        scale: probabilities are softmax(scale * scores); 100 is for cosines, 1 for a student's
            logits, None for scores that are probabilities.
    """
    ids = None
    if candidates is not None:
        ids = target.new_tensor(list(candidates))
        scores = scores[:, ids]
    label = torch.stack([_best(one, target.shape[1:], ids, threshold, scale) for one in scores])
    return label.to(target.dtype).where(target == UNLABELED, target)


def _best(scores, size, ids, threshold, scale):
    """(C, h, w), (H, W), (C) or None -> (H, W): the best class's id, or 255 where it is not sure"""
    labels = []
    for slab in slabs(scores, size):
        best, label = slab.max(dim=1)
        label = label if ids is None else ids[label]
        if threshold > 0:
            if scale is not None:
                best = 1 / ((slab - best[:, None]) * scale).exp_().sum(dim=1)
            label = label.where(best >= threshold, IGNORE)
        labels.append(label)
    return torch.cat(labels)
