from collections import defaultdict

import torch
from mmengine.model import BaseModel

from ..data_preprocessor import SegDataPreprocessor
from ..upsample import labels_at_photo_size


class MaskClip(BaseModel):
    """Annotation-free segmentation: a frozen CLIP and its text (MaskCLIP, ECCV 2022).

    Args:
        backbone: a CLIPDenseExtractor.
        decode_head: a MaskClipHead.
        weigher: the CLIPDenseExtractor whose image embedding feeds the class weight; None for the
            backbone itself, which then shares its pass when it looks at the whole image.
        weigher_view: 'clip' (CLIP's 224 crop of the photo, from the data set) or 'image' (the very
            input that is segmented).
        resize_twice: scores go through the input's size to the photo's, as in the original (Q15).
    """

    def __init__(
        self, backbone, decode_head, *, weigher=None, weigher_view='clip', resize_twice=False
    ):
        super().__init__(data_preprocessor=SegDataPreprocessor())
        self.backbone, self.decode_head, self.weigher = backbone, decode_head, weigher
        self.weigher_view, self.resize_twice = weigher_view, resize_twice
        self.requires_grad_(False)
        self.eval()

    def train(self, mode=True):
        """Frozen is structural: stays in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """[(3, H, W) uint8] -> samples with labels ('predict') or a list of scores."""
        scores = self.scores_of_any_size(inputs, data_samples)
        if mode == 'tensor':
            return scores
        for sample, score, image in zip(data_samples, scores, inputs):
            sample.seg_logits = score
            sample.pred_sem_seg = labels_at_photo_size(
                score,
                sample.ori_shape,
                input_size=tuple(image.shape[1:]),
                stride=self.backbone.stride,
                twice=self.resize_twice,
            )
        return data_samples

    def scores_of_any_size(self, images, samples=None):
        """[(3, H, W)] -> [(C, h, w)]: equal shapes share a pass; no result depends on the batch."""
        groups = defaultdict(list)
        for i, image in enumerate(images):
            groups[image.shape].append(i)
        scores = [None] * len(images)
        for members in groups.values():
            batch = torch.stack([images[i] for i in members])
            view = None
            if self._needs_view:
                view = torch.stack([samples[i].view for i in members])
            for i, score in zip(members, self.scores(batch, view)):
                scores[i] = score
        return scores

    @torch.no_grad()
    def scores(self, image, view=None):
        """(N, 3, H, W) RGB in 0..255, (N, 3, 224, 224) if the weigher wants it -> (N, C, h, w)"""
        if self.decode_head.class_weight is None:
            return self.decode_head(self.backbone(image))
        if self._needs_view:
            embedding = (self.weigher or self.backbone).embed(view)
            return self.decode_head(self.backbone(image), embedding)
        if self.weigher is not None:
            return self.decode_head(self.backbone(image), self.weigher.embed(image))
        return self.decode_head(*self.backbone.forward_with_embedding(image))

    @property
    def _needs_view(self):
        return self.decode_head.class_weight is not None and self.weigher_view == 'clip'
