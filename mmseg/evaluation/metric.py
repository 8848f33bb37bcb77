import math

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric

from mmseg.errors import UserError
from mmseg.registry import METRICS

from .functional import confusion_matrix, scores_of, zero_shot_scores


@METRICS.register_module()
class IoUMetric(BaseMetric):
    """mIoU, mAcc, mPrec, aAcc and the values per class, exact over photos, batches and processes.

    The confusion matrix stays on the device and is summed over processes once, at the end; so no
    process needs the others' photos, and none is counted twice.

    Args:
        ignore_index: see `confusion_matrix`.
    """

    default_prefix = ''

    def __init__(self, ignore_index=None):
        super().__init__()
        self.ignore_index = ignore_index
        self.confusion = None
        self.scores = None

    def process(self, data_batch, data_samples):
        """Add the samples' `pred_sem_seg` against `gt_sem_seg`, all photos in one count."""
        num_classes = len(self.dataset_meta['classes'])
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
        matrix = confusion_matrix(pred, truth, num_classes, ignore_index=self.ignore_index)
        self.confusion = matrix if self.confusion is None else self.confusion + matrix

    def evaluate(self, size):
        """-> {'aAcc', 'mIoU', ..., 'IoU.aeroplane', ...}: fractions rounded to 4 decimals."""
        num_classes = len(self.dataset_meta['classes'])
        if self.confusion is None:  # a process without a photo
            self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        all_reduce(self.confusion)
        self.scores = scores_of(self.confusion.cpu())  # the one value that is waited for
        self.confusion = None
        return self.compute_metrics([self.scores])

    @property
    def names(self):
        """What `evaluate` will give: 'aAcc', 'mIoU', ..."""
        number = len(self.dataset_meta['classes'])
        return list(self.compute_metrics([scores_of(torch.zeros(number, number).long())]))

    def compute_metrics(self, results):
        """[Scores] -> {'aAcc': ...}"""
        meta = self.dataset_meta
        return self.named(results[0], meta['classes'], meta.get('unseen', ()))

    @staticmethod
    def named(scores, labels, unseen=()):
        """Scores, (C) names -> {'mIoU': ..., 'IoU.dog': ...}; None for a value that is not defined.

        `mIoU` is mmsegmentation's mean, in which a class predicted but absent from the truth counts
        0; `mIoU_present` is the mean over the classes that the truth has. Where some classes are
        `unseen` (ids), their mean, the others' and the harmonic mean of both come too.
        """
        metrics = dict(
            aAcc=scores.all_acc,
            mIoU=scores.iou.nanmean(),
            mAcc=scores.acc.nanmean(),
            mPrec=scores.prec.nanmean(),
            mIoU_present=scores.iou[scores.present].mean(),
            **zero_shot_scores(scores.iou, unseen),
        )
        for kind, values in (('IoU', scores.iou), ('Acc', scores.acc), ('Prec', scores.prec)):
            metrics |= {f'{kind}.{label}': value for label, value in zip(labels, values)}
        return {key: _rounded(value) for key, value in metrics.items()}


def _rounded(value):
    value = float(value)
    return None if math.isnan(value) else round(value, 4)
