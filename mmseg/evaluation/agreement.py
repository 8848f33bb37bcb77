import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric

from mmseg.errors import UserError
from mmseg.registry import METRICS

from .functional import confusion_matrix, scores_of


@METRICS.register_module()
class AgreementMetric(BaseMetric):
    """How far a student says what its teacher says of photos that it was not trained on.

    It reads no mask, so it picks a checkpoint where there are none. It rewards a copy of the
    teacher, faults included: what it tells is when training stops following, not who is right.
    """

    default_prefix = ''
    names = ('agreement', 'agreement_mIoU')

    def __init__(self):
        super().__init__()
        self.confusion = None

    def process(self, data_batch, data_samples):
        """Add the samples' `pred_sem_seg` against their `pseudo_sem_seg`."""
        number = len(self.dataset_meta['classes'])
        for sample in data_samples:
            if 'pseudo_sem_seg' not in sample:
                raise UserError(f'{sample["img_path"]} has no labels of a teacher to agree with')
            matrix = confusion_matrix(sample['pred_sem_seg'], sample['pseudo_sem_seg'], number)
            self.confusion = matrix if self.confusion is None else self.confusion + matrix

    def evaluate(self, size):
        """-> {'agreement': share of pixels, 'agreement_mIoU': mean IoU with its labels}"""
        number = len(self.dataset_meta['classes'])
        if self.confusion is None:  # a process without a photo
            self.confusion = torch.zeros(number, number, dtype=torch.int64)
        all_reduce(self.confusion)
        scores, self.confusion = scores_of(self.confusion.cpu()), None
        return self.compute_metrics([scores])

    def compute_metrics(self, results):
        """[Scores] -> {'agreement': ..., 'agreement_mIoU': ...}, fractions of 4 decimals"""
        found = dict(agreement=results[0].all_acc, agreement_mIoU=results[0].iou.nanmean())
        return {key: round(float(value), 4) for key, value in found.items()}
