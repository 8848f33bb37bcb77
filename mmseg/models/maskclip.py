import torch

from .segmentor import Segmentor


class MaskClip(Segmentor):
    """Annotation-free segmentation: a frozen CLIP and its text (MaskCLIP, ECCV 2022).

    Args:
        backbone: a CLIPDenseExtractor.
        decode_head: a MaskClipHead.
        prior_encoder: the CLIPDenseExtractor whose image embedding feeds the class weight; None
            for the backbone itself, which then shares its pass when it looks at the whole image.
        prior_crop: see `Segmentor`; with windows, 'image' is still the whole input.
        options: see `Segmentor`.
    """

    def __init__(self, backbone, decode_head, *, prior_encoder=None, prior_crop='clip', **options):
        super().__init__(
            prior_crop=prior_crop if decode_head.class_weight is not None else None,
            score_stride=backbone.stride,
            **options,
        )
        self.backbone, self.decode_head, self.prior_encoder = backbone, decode_head, prior_encoder
        self.requires_grad_(False)
        self.eval()

    def train(self, mode=True):
        """Frozen is structural: stays in eval mode whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def dense_features(self, image):
        """(N, 3, H, W) RGB in 0..255 -> (N, D, h, w) in text space, not normalised"""
        return self.backbone(image, self.decode_head.conv_seg).patches

    def scores(self, image, view=None):
        """(N, 3, H, W) RGB in 0..255, (N, 3, 224, 224) if the prior_encoder wants it ->
        (N, C, h, w)
        """
        return self.scoring.by_class(self.queries(image, view))

    @torch.no_grad()
    def queries(self, image, view=None):
        """As `scores`, of queries -> (N, Q, h, w)"""
        text = self.decode_head.conv_seg
        if self.prior_crop == 'image' and self.prior_encoder is None:
            return self.decode_head(*self.backbone.forward_with_embedding(image, text))
        return self.decode_head(self.backbone(image, text), self.image_context(image, view))

    def image_context(self, image, view):
        """The prior_encoder's embedding of the photo -> (N, D), or None without a class weight"""
        if self.prior_crop is None:
            return None
        source = view if self.prior_crop == 'clip' else image
        return (self.prior_encoder or self.backbone).embed(source)

    def window_logits(self, image, seen):
        """(N, 3, H, W), (N, D) of `image_context` ->
        (N, Q, h, w), and (N, h*w, K) keys to smooth with
        """
        features = self.backbone(image, self.decode_head.conv_seg)
        keys = features.keys if self.decode_head.ks_thresh else None
        return self.decode_head.compare(features, seen), keys

    def refined(self, scores, keys):
        """(W, Q, h, w), (W, h*w, K) or None, of a photo's windows -> (W, Q, h, w)"""
        return self.decode_head.refine(scores, keys, one_photo=True)

    def normalised(self, image):
        """(3, H, W) in 0..255 -> (3, H, W) by CLIP's own mean and std"""
        return ((image - self.backbone.mean) / self.backbone.std)[0]
