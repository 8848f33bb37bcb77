from collections.abc import Sequence

from torch import Tensor, nn

from mmseg.registry import MODELS
from mmseg.utils import Count, Fraction, validated

from .decode_head import ConvModule, DecodeHead


@MODELS.register_module()
class ASPPHeadV2(DecodeHead):
    """DeepLabv2's atrous spatial pyramid: four dilated 3x3 convolutions, summed (TPAMI 2017).

    Args:
        in_channels: of the backbone's outputs; the last is read.
        dilations: of the branches.
    """

    @validated
    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        classifier: nn.Module,
        /,
        *,
        dilations: Sequence[Count] = (6, 12, 18, 24),
        dropout: Fraction = 0.1,
    ) -> None:
        super().__init__(channels, classifier, dropout=dropout)
        self.aspp_modules = nn.ModuleList(
            ConvModule(in_channels[-1], channels, 3, dilation=d) for d in dilations
        )

    def forward_features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Sum the branches: [(N, C_i, h_i, w_i)] -> (N, D, h, w)"""
        return sum(branch(inputs[-1]) for branch in self.aspp_modules)
