from torch import Tensor, nn

from mmseg.utils import require_choice, require_number

from ..refine import KEY_AXES, key_smooth, prompt_denoise


class MaskClipHead(nn.Module):
    """Text classifier, optional class weight, optional refinement: `refine(weigh(text(features)))`.

    Args:
        classifier: a TextClassifier, features in, cosines out.
        class_weight: a ClassWeight, or None for none.
        pd_thresh: prompt denoising, in 0..1; 0 is off.
        ks_thresh: key smoothing, in 0..1; 0 is off; scores are probabilities behind it.
        ks_over, ks_normalize_rows: see `key_smooth`.
        pd_spare_empty: see `prompt_denoise`.

    Raises:
        UserError: a threshold outside 0..1, an unknown `ks_over`.
    """

    def __init__(
        self,
        classifier,
        class_weight=None,
        *,
        pd_thresh=0.0,
        ks_thresh=0.0,
        ks_over='channels',
        ks_normalize_rows=True,
        pd_spare_empty=True,
    ):
        super().__init__()
        for name, threshold in (('pd_thresh', pd_thresh), ('ks_thresh', ks_thresh)):
            require_number(name, threshold, 0, 1)
        require_choice('ks_over', ks_over, tuple(KEY_AXES))
        self.conv_seg = classifier
        self.class_weight = class_weight
        self.pd_thresh, self.pd_spare_empty = pd_thresh, pd_spare_empty
        self.ks_thresh, self.ks_over, self.ks_normalize_rows = ks_thresh, ks_over, ks_normalize_rows

    @property
    def num_classes(self):
        return self.conv_seg.num_classes

    def forward(self, features, embedding=None) -> Tensor:
        """DenseFeatures, (N, D) unit norm or None -> (N, C, h, w) scores.

        `embedding` is the prior_encoder's; it is needed if and only if the head has a class weight.
        """
        return self.refine(self.compare(features, embedding), features.keys)

    def compare(self, features, embedding=None) -> Tensor:
        """DenseFeatures, (N, D) or None -> (N, C, h, w): cosines with the text, weighed."""
        scores = self.conv_seg(features.patches)
        if self.class_weight is not None:
            scores = self.class_weight.reweight(scores, embedding)
        return scores

    def refine(self, scores: Tensor, keys: Tensor | None, *, one_photo: bool = False) -> Tensor:
        """(N, C, h, w) of `compare`, (N, h*w, K) -> (N, C, h, w): denoised, then smoothed.

        Args:
            keys: may be None without key smoothing.
            one_photo: see `prompt_denoise`; keys are smoothed within each of the N maps.
        """
        scores = prompt_denoise(
            scores,
            threshold=self.pd_thresh,
            spare_empty=self.pd_spare_empty,
            one_photo=one_photo,
        )
        return key_smooth(
            scores,
            keys,
            threshold=self.ks_thresh,
            over=self.ks_over,
            normalize_rows=self.ks_normalize_rows,
        )
