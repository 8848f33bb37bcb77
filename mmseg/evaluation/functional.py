"""IoU, accuracy and precision from one confusion matrix."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmseg.utils.tensors import bincount


class Scores(NamedTuple):
    """Fractions in 0..1; NaN for a class without pixels to judge by, as in mmsegmentation.

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


def confusion_matrix(pred: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Count pixels: two label maps of one shape -> (C, C) int64, truth x prediction.

    Labels of the truth beyond the classes are not counted. Counts stay on the device, and the call
    does not synchronise with an accelerator.
    """
    rows = truth.flatten().int().clamp(max=num_classes)  # ignored pixels fall into row C
    index, bins = rows * num_classes + pred.flatten(), (num_classes + 1) * num_classes
    on_cpu = index.device.type == 'cpu'
    counts = torch.bincount(index, minlength=bins) if on_cpu else bincount(index, bins)
    return counts.view(num_classes + 1, num_classes)[:num_classes]


def scores_of(confusion: Tensor) -> Scores:
    """Compute scores: (C, C) -> Scores. A class of the prediction alone has IoU 0, of neither NaN.

    Args:
        confusion: truth x prediction, from `confusion_matrix`.
    """
    right = confusion.diagonal().double()
    truth, pred = confusion.sum(dim=1).double(), confusion.sum(dim=0).double()
    return Scores(
        iou=right / (truth + pred - right),
        acc=right / truth,
        prec=right / pred,
        all_acc=right.sum() / truth.sum(),
        present=truth > 0,
    )


def zero_shot_scores(iou: Tensor, unseen: Sequence[int]) -> dict[str, Tensor]:
    """Compute {'mIoU_seen', 'mIoU_unseen', 'hIoU'}: two means, and their harmonic mean.

    Args:
        iou: (C).
        unseen: class ids. The result is empty if no class or every class is unseen.
    """
    if not 0 < len(unseen) < len(iou):
        return {}
    is_unseen = torch.zeros(len(iou), dtype=torch.bool, device=iou.device)
    is_unseen[list(unseen)] = True
    seen_mean, unseen_mean = iou[~is_unseen].nanmean(), iou[is_unseen].nanmean()
    harmonic = 2 * seen_mean * unseen_mean / (seen_mean + unseen_mean)
    return dict(mIoU_seen=seen_mean, mIoU_unseen=unseen_mean, hIoU=harmonic)


def score_table(labels: Sequence[str], scores: Scores, unseen: Sequence[int] = ()) -> str:
    """Format scores as a table in per cent: one row per class, then the means.

    Args:
        labels: (C) class names.
        unseen: class ids, see `zero_shot_scores`.
    """
    width = max(len(label) for label in (*labels, 'class'))
    rows = [f'{"class":{width}}    IoU     Acc    Prec', '-' * (width + 24)]
    for label, *values in zip(labels, scores.iou, scores.acc, scores.prec):
        rows.append(f'{label:{width}} ' + ' '.join(_percent(value) for value in values))
    present = scores.iou[scores.present].mean()
    rows += [
        '-' * (width + 24),
        f'aAcc {_percent(scores.all_acc)}   mIoU {_percent(scores.iou.nanmean())}   '
        f'mAcc {_percent(scores.acc.nanmean())}   mPrec {_percent(scores.prec.nanmean())}',
        f'mIoU over the {int(scores.present.sum())} classes present {_percent(present)}',
    ]
    if means := zero_shot_scores(scores.iou, unseen):
        rows.append('   '.join(f'{name} {_percent(value)}' for name, value in means.items()))
    return '\n'.join(rows)


def _percent(value: Tensor) -> str:
    return f'{"-" if value.isnan() else format(100 * float(value), ".2f"):>7}'


def name_the_same(named: Sequence[tuple[str, ...]], device: torch.device) -> Tensor:
    """Compare what N captions name: -> (N, N) bool"""
    ids = {names: i for i, names in enumerate(dict.fromkeys(named))}
    rows = torch.tensor([ids[names] for names in named]).to(device, non_blocking=True)
    return rows[:, None] == rows
