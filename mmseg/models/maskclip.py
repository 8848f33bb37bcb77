from typing import Any

import torch
from torch import Tensor

from mmseg.clip import CLIPDenseExtractor

from .class_weight import ClassWeight
from .decode_heads import MaskClipHead
from .refine.denoise import key_smooth, prompt_denoise
from .segmentor import Segmentor


class MaskClip(Segmentor):
    """Segment by a frozen CLIP and its text, without annotations (MaskCLIP, ECCV 2022).

    `Segmentor.forward` runs five steps: encode the image, compare its features with the text,
    weigh the classes (`window_logits`), refine (`refine`), label (`labels`).

    Args:
        backbone: a CLIPDenseExtractor.
        decode_head: a MaskClipHead.
        class_weight: a ClassWeight, or None.
        options: see `Segmentor`.
    """

    backbone: CLIPDenseExtractor
    decode_head: MaskClipHead

    def __init__(
        self,
        backbone: CLIPDenseExtractor,
        decode_head: MaskClipHead,
        class_weight: ClassWeight | None = None,
        /,
        **options: Any,
    ) -> None:
        super().__init__(class_weight, score_stride=backbone.stride, **options)
        self.backbone, self.decode_head = backbone, decode_head
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> 'MaskClip':
        """Stay in eval mode: the model is frozen."""
        return super().train(False)

    @torch.no_grad()
    def window_logits(
        self, image: Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode, compare with the text, weigh: (N, 3, H, W) -> (N, Q, h, w), (N, h*w, K) keys

        See `Segmentor.window_logits`. The keys are None without key smoothing.
        """
        text = self.decode_head.conv_seg
        # 1. Encode: patches (N, D, h, w) in text space, keys (N, h*w, K) of the last attention.
        if self.class_weight is None or embedding is not None:
            features = self.backbone(image, text)
        elif 'encoder' in self.class_weight.frozen:  # it sees the whole input
            features = self.backbone(image, text)
            embedding = self.class_weight.embed(image, self.backbone)
        else:  # one pass gives the features and the embedding of the input
            features, embedding = self.backbone.forward_with_embedding(image, text)
        # 2. Compare with the text: cosines (N, Q, h, w).
        logits = self.decode_head(features.patches)
        # 3. Weigh the classes by the image embedding (N, D).
        if self.class_weight is not None and embedding is not None:
            logits = self.class_weight.reweight(logits, embedding)
        return logits, features.keys if self.decode_head.ks_thresh else None

    def refine(self, logits: Tensor, keys: Tensor | None, *, one_photo: bool = False) -> Tensor:
        """Denoise, then smooth: (N, Q, h, w), (N, h*w, K) -> (N, Q, h, w)

        Windows of one photo are denoised together and smoothed each by its own keys. Labels come
        next, see `Segmentor.labels`.
        """
        head = self.decode_head
        # 4. Refine: drop the classes that the photo does not show, then average by the keys.
        logits = prompt_denoise(
            logits, threshold=head.pd_thresh, spare_empty=head.pd_spare_empty, one_photo=one_photo
        )
        if keys is None:
            return logits
        return key_smooth(
            logits,
            keys,
            threshold=head.ks_thresh,
            over=head.ks_over,
            normalize_rows=head.ks_normalize_rows,
        )

    @torch.no_grad()
    def dense_features(self, image: Tensor) -> Tensor:
        """Encode only: (N, 3, H, W) RGB in 0..255 -> (N, D, h, w) in text space, not normalised"""
        return self.backbone(image, self.decode_head.conv_seg).patches

    def normalised(self, image: Tensor) -> Tensor:
        """Normalise a photo by CLIP's mean and std: (3, H, W) in 0..255 -> (3, H, W)"""
        return ((image - self.backbone.mean) / self.backbone.std)[0]
