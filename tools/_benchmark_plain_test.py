"""What mmsegmentation 0.x does with a config's weights, stage by stage and end to end."""

import time

import numpy as np
import torch
from _benchmark_clock import Clock
from _benchmark_fast_test import Fast, truth_of
from _benchmark_plain import plain_confusion, plain_iou, plain_labels, plain_pytorch

from mmseg.apis.export import require_scores_alone
from mmseg.datasets.reading import crop_for_prior, read_photo
from mmseg.structures import ignore_label


class Plain(Fast):
    """The same weights by `_benchmark_plain`: batch 1, in the order of the list.

    Raises:
        UserError: windows, post-processing or thresholds, which it does not do.
    """

    name = 'baseline'

    def __init__(self, runner, args):
        super().__init__(runner, args)
        require_scores_alone(self.model, 'the baseline (--baseline)')
        self.order, self.batch, self.precision = sorted(self.order), 1, 'fp32'

    def context(self):
        """-> fp32 and plain PyTorch"""
        stack = super().context()
        stack.enter_context(plain_pytorch(self.model))
        return stack

    def stages(self, indices, clock):
        """One photo's index -> [labels]"""
        data = self.load(indices, clock)
        (labels,), _ = self.measure(data, clock)
        return [torch.from_numpy(labels)]

    def measure(self, data, clock):
        """A batch of one -> ([labels], (3, C) areas)"""
        (image,), (sample,) = data['inputs'], data['data_samples']
        with clock.stage('decode'):
            view = self.view(sample)
        with clock.stage('network'):
            scores = self.model.batch_logits(image[None], view)
        with clock.stage('upsample + argmax'):
            labels = plain_labels(self.model, scores, tuple(image.shape[1:]), sample.ori_shape)
        truth = truth_of(sample, labels)
        truth = truth.cpu().numpy() if isinstance(truth, torch.Tensor) else truth
        with clock.stage('metric'):
            ignore = ignore_label(self.num_classes)
            areas = plain_confusion(labels, truth, self.num_classes, ignore)
        return [labels], areas

    def view(self, sample):
        """CLIP's view for a class weight, from the file once more, as the original reads it"""
        if self.model.prior_crop != 'clip':
            return None
        photo = crop_for_prior(read_photo(sample.img_path), sample.prior_crop.shape[-1])
        return torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].to(sample.prior_crop.device)

    def end_to_end(self):
        """-> (photos a second, mIoU)"""
        clock, areas = Clock(self.runner.cfg.device), 0
        start = time.perf_counter()
        settings = dict(self.runner.cfg.test_dataloader, batch_size=1)
        settings['sampler'] = dict(type='DefaultSampler', shuffle=False)
        with self.context():
            for batch in self.runner.build_dataloader(settings):
                areas = areas + self.measure(self.model.data_preprocessor(batch), clock)[1]
        value = plain_iou(np.asarray(areas))
        return len(self.dataset) / (time.perf_counter() - start), value
