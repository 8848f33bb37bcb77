from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg.registry import MODELS
from mmseg.utils import Fraction, validated

from .decode_head import DecodeHead


@MODELS.register_module()
class ParseNetHead(DecodeHead):
    """ParseNet: each place sees the photo's mean feature beside its own (arXiv:1506.04579).

    Both are normalised first, in the paper by their L2 norm, here by batch norm.

    Args:
        in_channels: of the backbone's outputs; the last is read.
    """

    @validated
    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        classifier: nn.Module,
        /,
        *,
        dropout: Fraction = 0.1,
    ) -> None:
        super().__init__(channels, classifier, dropout=dropout)
        deep = in_channels[-1]
        self.local_norm, self.global_norm = nn.BatchNorm2d(deep), nn.BatchNorm2d(deep)
        self.fusion_conv = nn.Conv2d(2 * deep, channels, 1)

    def forward_features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Combine places and photo: [(N, C_i, h_i, w_i)] -> (N, D, h, w)"""
        deep = inputs[-1]
        mean = self.global_norm(deep.mean(dim=(2, 3), keepdim=True)).expand_as(deep)
        both = torch.cat([self.local_norm(deep), mean], dim=1)
        return self.fusion_conv(self.dropout(both)).relu()
