from torch import nn

from .decode_head import ConvModule, DecodeHead


class ASPPHeadV2(DecodeHead):
    """DeepLabv2's atrous spatial pyramid: four dilated 3x3 convolutions, summed (TPAMI 2017).

    Args:
        in_channels: of the backbone's outputs; the last is read.
        dilations: of the branches.
    """

    def __init__(
        self, in_channels, channels, classifier, *, dilations=(6, 12, 18, 24), dropout=0.1
    ):
        super().__init__(channels, classifier, dropout=dropout)
        self.aspp_modules = nn.ModuleList(
            ConvModule(in_channels[-1], channels, 3, dilation=d) for d in dilations
        )

    def forward_features(self, inputs):
        return sum(branch(inputs[-1]) for branch in self.aspp_modules)
