from collections import defaultdict

import torch
from mmengine.model import BaseModel

from ..data_preprocessor import SegDataPreprocessor
from ..upsample import labels_at_photo_size


class Segmentor(BaseModel):
    """Photos of any size in, label maps at photo size out; `scores` is what a subclass adds.

    Args:
        weigher_view: what the class weight looks at: 'clip' (CLIP's 224 crop of the photo, from the
            data set), 'image' (the very input that is segmented), or None without a class weight.
        score_stride: pixels of the input per cell of the scores; None where the scores' grid spans
            the input whatever its size.
        resize_twice: scores go through the input's size to the photo's, as in the original (Q15).
    """

    def __init__(self, *, weigher_view=None, score_stride=None, resize_twice=False):
        super().__init__(data_preprocessor=SegDataPreprocessor())
        self.weigher_view, self.score_stride = weigher_view, score_stride
        self.resize_twice = resize_twice

    def forward(self, inputs, data_samples=None, mode='tensor', **context):
        """[(3, H, W) uint8] -> samples with labels, {name: loss} or a list of scores."""
        if mode == 'loss':
            return self.loss(inputs, data_samples, **context)
        scores = self.scores_of_any_size(inputs, data_samples)
        if mode == 'tensor':
            return scores
        for sample, score, image in zip(data_samples, scores, inputs):
            sample.seg_logits = score
            sample.pred_sem_seg = self.labels(score, sample.ori_shape, tuple(image.shape[1:]))
        return data_samples

    def labels(self, score, photo_size, input_size, stride=None):
        """(C, h, w) -> (H, W) labels at the photo's size; a stride in place of the model's own"""
        return labels_at_photo_size(
            score,
            photo_size,
            input_size=input_size,
            stride=stride or self.score_stride,
            twice=self.resize_twice and stride is None,
        )

    def scores_of_any_size(self, images, samples=None):
        """[(3, H, W)] -> [(C, h, w)]: equal shapes share a pass; no result depends on the batch."""
        groups = defaultdict(list)
        for i, image in enumerate(images):
            groups[image.shape].append(i)
        scores = [None] * len(images)
        for members in groups.values():
            batch = torch.stack([images[i] for i in members])
            view = None
            if self.weigher_view == 'clip':
                view = torch.stack([samples[i].view for i in members])
            for i, score in zip(members, self.scores(batch, view)):
                scores[i] = score
        return scores

    def scores(self, image, view=None):
        """(N, 3, H, W) RGB in 0..255, (N, 3, 224, 224) for a view -> (N, C, h, w)"""
        raise NotImplementedError

    def loss(self, images, samples, **context):
        """[(3, H, W) uint8], samples with gt_sem_seg -> {name: loss or figure}"""
        raise NotImplementedError(f'{type(self).__name__} has nothing to train')
