from torch import Tensor, nn

from ..class_weight import reweight
from ..refine import key_smooth, prompt_denoise


class MaskClipHead(nn.Module):
    """Text classifier, optional class weight, optional refinement: `refine(weigh(text(features)))`.

    Args:
        classifier: a TextClassifier, features in, cosines out.
        class_weight: a ClassWeight, or None for none.
        weight_mode, weight_signed: see `reweight`.
        pd_thresh: prompt denoising, in 0..1; 0 is off.
        ks_thresh: key smoothing, in 0..1; 0 is off; scores are probabilities behind it.
        ks_over, ks_normalize_rows: see `key_smooth`.
        pd_spare_empty: see `prompt_denoise`.
    """

    def __init__(
        self,
        classifier,
        class_weight=None,
        *,
        weight_mode='multiply',
        weight_signed=False,
        pd_thresh=0.0,
        ks_thresh=0.0,
        ks_over='channels',
        ks_normalize_rows=True,
        pd_spare_empty=True,
    ):
        super().__init__()
        self.conv_seg = classifier
        self.class_weight = class_weight
        self.weight_mode, self.weight_signed = weight_mode, weight_signed
        self.pd_thresh, self.pd_spare_empty = pd_thresh, pd_spare_empty
        self.ks_thresh, self.ks_over, self.ks_normalize_rows = ks_thresh, ks_over, ks_normalize_rows

    @property
    def num_classes(self):
        return self.conv_seg.num_classes

    def forward(self, features, embedding=None) -> Tensor:
        """DenseFeatures, (N, D) unit norm or None -> (N, C, h, w) scores.

        `embedding` is the weigher's; it is needed if and only if the head has a class weight.
        """
        scores = self.conv_seg(features.patches)
        if self.class_weight is not None:
            scores = reweight(
                scores,
                self.class_weight(embedding),
                mode=self.weight_mode,
                signed=self.weight_signed,
            )
        scores = prompt_denoise(scores, threshold=self.pd_thresh, spare_empty=self.pd_spare_empty)
        return key_smooth(
            scores,
            features.keys,
            threshold=self.ks_thresh,
            over=self.ks_over,
            normalize_rows=self.ks_normalize_rows,
        )
