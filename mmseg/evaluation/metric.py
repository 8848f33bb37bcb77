"""Metrics for mmengine's evaluator: IoU, a student's agreement with its teacher, retrieval."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmseg.errors import UserError
from mmseg.registry import METRICS

from .functional import Scores, confusion_matrix, name_the_same, scores_of, zero_shot_scores

Sample = dict[str, Any]


class ConfusionMetric(BaseMetric):
    """Base of metrics of one confusion matrix, exact over photos, batches and processes.

    The matrix stays on the device and is summed over processes once, at the end. No process needs
    the others' photos, and no photo counts twice.
    """

    default_prefix = ''

    def __init__(self) -> None:
        super().__init__()
        self.confusion: Tensor | None = None

    @property
    def num_classes(self) -> int:
        return len(self.dataset_meta['classes'])

    def add(self, pred: Tensor, truth: Tensor) -> None:
        """Count pixels of one shape into the confusion matrix."""
        matrix = confusion_matrix(pred, truth, self.num_classes)
        self.confusion = matrix if self.confusion is None else self.confusion + matrix

    def reduce(self) -> Scores:
        """Sum the matrix over processes, reset it, and return its scores."""
        if self.confusion is None:  # a process without a photo
            self.confusion = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        all_reduce(self.confusion)
        scores = scores_of(self.confusion.cpu())  # waits for the device
        self.confusion = None
        return scores

    def evaluate(self, size: int) -> dict[str, float | None]:
        """Return the named metrics of all photos, and start anew."""
        metrics: dict[str, float | None] = self.compute_metrics([self.reduce()])
        return metrics


@METRICS.register_module()
class IoUMetric(ConfusionMetric):
    """Compute mIoU, mAcc, mPrec, aAcc and the values per class."""

    scores: Scores | None = None  # of the last `evaluate`, for a table per class

    def process(self, data_batch: Any, data_samples: Sequence[Sample]) -> None:
        """Add the samples' `pred_sem_seg` against `gt_sem_seg`, all photos in one count."""
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise UserError(
                    f'{sample["img_path"]} has no mask to evaluate against; leave out '
                    '--eval and ask for pictures (--show-dir) or labels (--out)'
                )
        pred, truth = (
            torch.cat([sample[key].flatten() for sample in data_samples])
            for key in ('pred_sem_seg', 'gt_sem_seg')
        )
        self.add(pred, truth)

    def evaluate(self, size: int) -> dict[str, float | None]:
        """Return the named metrics of all photos, and keep their `scores`."""
        self.scores = self.reduce()
        return self.compute_metrics([self.scores])

    @property
    def names(self) -> list[str]:
        """Names of the metrics that `evaluate` returns: 'aAcc', 'mIoU', ..."""
        empty = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        return list(self.compute_metrics([scores_of(empty)]))

    def compute_metrics(self, results: list[Scores]) -> dict[str, float | None]:
        """Name one `Scores` by the data set's classes."""
        meta = self.dataset_meta
        return self.named(results[0], meta['classes'], meta.get('unseen', ()))

    @staticmethod
    def named(
        scores: Scores, labels: Sequence[str], unseen: Sequence[int] = ()
    ) -> dict[str, float | None]:
        """Name scores: {'mIoU': ..., 'IoU.dog': ...}, fractions of 4 decimals, None for undefined.

        `mIoU` is mmsegmentation's mean, in which a class predicted but absent from the truth counts
        0. `mIoU_present` is the mean over the classes in the truth. With `unseen` class ids, add
        the means over seen and unseen classes and their harmonic mean.
        """
        metrics = dict(
            aAcc=scores.all_acc,
            mIoU=scores.iou.nanmean(),
            mAcc=scores.acc.nanmean(),
            mPrec=scores.prec.nanmean(),
            mIoU_present=scores.iou[scores.present].mean(),
            **zero_shot_scores(scores.iou, unseen),
        )
        for name, values in (('IoU', scores.iou), ('Acc', scores.acc), ('Prec', scores.prec)):
            metrics |= {f'{name}.{label}': value for label, value in zip(labels, values)}
        return {key: _rounded(value) for key, value in metrics.items()}


@METRICS.register_module()
class AgreementMetric(ConfusionMetric):
    """Compare a student's labels with its teacher's on photos that it was not trained on.

    It reads no masks, so it can select a checkpoint without annotation. It rewards copying the
    teacher, errors included: it tells when training stops following, not which model is right.
    """

    names = ('agreement', 'agreement_mIoU')

    def process(self, data_batch: Any, data_samples: Sequence[Sample]) -> None:
        """Add the samples' `pred_sem_seg` against their `pseudo_sem_seg`."""
        for sample in data_samples:
            if 'pseudo_sem_seg' not in sample:
                raise UserError(f'{sample["img_path"]} has no labels of a teacher to agree with')
            self.add(sample['pred_sem_seg'], sample['pseudo_sem_seg'])

    def compute_metrics(self, results: list[Scores]) -> dict[str, float | None]:
        """Name one `Scores`: share of equal pixels, and mean IoU with the teacher's labels."""
        metrics = dict(agreement=results[0].all_acc, agreement_mIoU=results[0].iou.nanmean())
        return {key: round(float(value), 4) for key, value in metrics.items()}


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Compute R@1 and R@5: the share of images with a right caption among the nearest 1 or 5.

    Right are the image's own caption and all that name the same.
    """

    default_prefix = ''
    names = ('R@1', 'R@5')

    def process(self, data_batch: Any, data_samples: Sequence[Sample]) -> None:
        """Collect the samples' `named`, `image_embedding` and `text_embedding`."""
        for sample in data_samples:
            embeddings = sample['image_embedding'].cpu(), sample['text_embedding'].cpu()
            self.results.append((sample['named'], *embeddings))

    def compute_metrics(
        self, results: list[tuple[tuple[str, ...], Tensor, Tensor]]
    ) -> dict[str, float]:
        """Return {'R@1', 'R@5'} as fractions of 4 decimals."""
        named, images, texts = zip(*results)
        right = name_the_same(named, images[0].device)
        scores = torch.stack(images) @ torch.stack(texts).T
        best = scores.masked_fill(~right, -math.inf).amax(dim=1, keepdim=True)
        rank = (scores > best).sum(dim=1)
        return {f'R@{k}': round((rank < k).float().mean().item(), 4) for k in (1, 5)}


def _rounded(value: Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else round(number, 4)
