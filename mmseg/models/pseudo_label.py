"""Targets from a teacher: the only pixels that change are those nobody labelled."""

import torch.nn.functional as F
from torch import Tensor

from mmseg.structures import IGNORE, UNLABELED


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
    if candidates is not None:
        scores = scores[:, list(candidates)]
    scores = F.interpolate(scores, size=target.shape[1:], mode='bilinear', align_corners=False)
    label = scores.argmax(dim=1)
    if candidates is not None:
        label = label.new_tensor(list(candidates))[label]
    if threshold > 0:
        sure = scores if scale is None else (scores * scale).softmax(dim=1)
        label = label.where(sure.amax(dim=1) >= threshold, label.new_tensor(IGNORE))
    return label.to(target.dtype).where(target == UNLABELED, target)
