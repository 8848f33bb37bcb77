"""IoU and its kin from one confusion matrix."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmseg.structures import ignore_label
from mmseg.utils import count_unasked


class Scores(NamedTuple):
    """Fractions in 0..1; NaN where a class gives no ground to judge by (mmsegmentation's way).

    Attributes:
        iou, acc, prec: (C) intersection over union, recall of pixels, precision of pixels.
        all_acc: () share of labelled pixels that are right.
        present: (C) bool, the class occurs in the truth.
    """

    iou: Tensor
    acc: Tensor
    prec: Tensor
    all_acc: Tensor
    present: Tensor


def confusion_matrix(pred, truth, num_classes, *, ignore_index=None) -> Tensor:
    """Count pixels: labels, labels of one shape -> (C, C) int64, truth x prediction.

    An accelerator is not waited for: the counts stay there.

    Args:
        ignore_index: label of the truth that is not counted, nor any beyond the classes; None for
            `ignore_label`.
    """
    ignore_index = ignore_label(num_classes) if ignore_index is None else ignore_index
    rows = truth.flatten().int().clamp(max=num_classes)  # what is ignored falls into row C
    if ignore_index < num_classes:
        rows = torch.where(rows == ignore_index, num_classes, rows)
    index, bins = rows * num_classes + pred.flatten(), (num_classes + 1) * num_classes
    on_cpu = index.device.type == 'cpu'
    counts = torch.bincount(index, minlength=bins) if on_cpu else count_unasked(index, bins)
    return counts.view(num_classes + 1, num_classes)[:num_classes]


def scores_of(confusion) -> Scores:
    """(C, C) -> Scores; a class only in the prediction has IoU 0, one in neither NaN."""
    right = confusion.diagonal().double()
    truth, pred = confusion.sum(dim=1).double(), confusion.sum(dim=0).double()
    return Scores(
        iou=right / (truth + pred - right),
        acc=right / truth,
        prec=right / pred,
        all_acc=right.sum() / truth.sum(),
        present=truth > 0,
    )


def zero_shot_scores(iou, unseen) -> dict:
    """(C), ids -> {'mIoU_seen', 'mIoU_unseen', 'hIoU'}: means, and the harmonic mean of the two.

    Empty where no class or every class is unseen.
    """
    if not 0 < len(unseen) < len(iou):
        return {}
    hidden = torch.zeros(len(iou), dtype=torch.bool, device=iou.device)
    hidden[list(unseen)] = True
    seen, unseen = iou[~hidden].nanmean(), iou[hidden].nanmean()
    return dict(mIoU_seen=seen, mIoU_unseen=unseen, hIoU=2 * seen * unseen / (seen + unseen))
