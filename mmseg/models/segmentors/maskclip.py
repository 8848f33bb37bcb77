import torch

from .base import Segmentor


class MaskClip(Segmentor):
    """Annotation-free segmentation: a frozen CLIP and its text (MaskCLIP, ECCV 2022).

    Args:
        backbone: a CLIPDenseExtractor.
        decode_head: a MaskClipHead.
        weigher: the CLIPDenseExtractor whose image embedding feeds the class weight; None for the
            backbone itself, which then shares its pass when it looks at the whole image.
        weigher_view, resize_twice: see `Segmentor`.
    """

    def __init__(
        self, backbone, decode_head, *, weigher=None, weigher_view='clip', resize_twice=False
    ):
        super().__init__(
            weigher_view=weigher_view if decode_head.class_weight is not None else None,
            score_stride=backbone.stride,
            resize_twice=resize_twice,
        )
        self.backbone, self.decode_head, self.weigher = backbone, decode_head, weigher
        self.requires_grad_(False)
        self.eval()

    def train(self, mode=True):
        """Frozen is structural: stays in eval mode whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def dense_features(self, image):
        """(N, 3, H, W) RGB in 0..255 -> (N, D, h, w) in text space, not normalised"""
        return self.backbone(image, self.decode_head.conv_seg).patches

    @torch.no_grad()
    def scores(self, image, view=None):
        """(N, 3, H, W) RGB in 0..255, (N, 3, 224, 224) if the weigher wants it -> (N, C, h, w)"""
        score = self.decode_head.conv_seg  # of a first answer, for readouts with feedback
        if self.weigher_view is None:
            return self.decode_head(self.backbone(image, score))
        if self.weigher_view == 'image' and self.weigher is None:
            return self.decode_head(*self.backbone.forward_with_embedding(image, score))
        source = view if self.weigher_view == 'clip' else image
        features = self.backbone(image, score)
        return self.decode_head(features, (self.weigher or self.backbone).embed(source))
