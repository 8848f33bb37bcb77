from typing import Literal

from torch import Tensor, nn

from mmseg.utils import Fraction, validated

from ..text_classifier import TextClassifier


class MaskClipHead(nn.Module):
    """The text classifier of MaskCLIP, and the settings of the refinement in `MaskClip.refine`.

    Args:
        classifier: a TextClassifier, from features to cosines.
        pd_thresh: threshold of prompt denoising; 0 is off.
        ks_thresh: threshold of key smoothing; 0 is off. Otherwise logits become probabilities.
        ks_over, ks_normalize_rows: see `key_smooth`.
        pd_spare_empty: see `prompt_denoise`.

    Raises:
        UserError: a value out of range.
    """

    @validated
    def __init__(
        self,
        classifier: TextClassifier,
        /,
        *,
        pd_thresh: Fraction = 0.0,
        ks_thresh: Fraction = 0.0,
        ks_over: Literal['channels', 'positions'] = 'channels',
        ks_normalize_rows: bool = True,
        pd_spare_empty: bool = True,
    ) -> None:
        super().__init__()
        self.conv_seg = classifier
        self.pd_thresh, self.pd_spare_empty = pd_thresh, pd_spare_empty
        self.ks_thresh, self.ks_over, self.ks_normalize_rows = ks_thresh, ks_over, ks_normalize_rows

    def forward(self, patches: Tensor) -> Tensor:
        """Compare features with the text: (N, D, h, w) -> (N, Q, h, w) cosines"""
        return self.conv_seg(patches)
