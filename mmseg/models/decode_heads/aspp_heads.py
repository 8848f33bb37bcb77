"""DeepLab's heads, on atrous spatial pyramids (ASPP)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg.registry import MODELS
from mmseg.utils import Count, Fraction, validated

from .decode_head import ConvModule, DecodeHead, SeparableConvModule, resize_like


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


@MODELS.register_module()
class DepthwiseSeparableASPPHead(DecodeHead):
    """DeepLabv3+: atrous pyramid with image pooling, refined by a shallow stage (ECCV 2018).

    Args:
        in_channels: of the backbone's outputs; the first is the shallow stage, the last the deep.
        dilations: of the pyramid's branches; 1 makes a 1x1 convolution.
        c1_channels: width of the shallow stage beside the pyramid.
    """

    @validated
    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        classifier: nn.Module,
        /,
        *,
        dilations: Sequence[Count] = (1, 12, 24, 36),
        c1_channels: Count = 48,
        dropout: Fraction = 0.1,
    ) -> None:
        super().__init__(channels, classifier, dropout=dropout)
        deep = in_channels[-1]
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(deep, channels))
        self.aspp_modules = nn.ModuleList(
            SeparableConvModule(deep, channels, dilation=d) if d > 1 else ConvModule(deep, channels)
            for d in dilations
        )
        self.bottleneck = ConvModule((len(dilations) + 1) * channels, channels, 3)
        self.c1_bottleneck = ConvModule(in_channels[0], c1_channels)
        self.sep_bottleneck = nn.Sequential(
            SeparableConvModule(channels + c1_channels, channels),
            SeparableConvModule(channels, channels),
        )

    def forward_features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Combine the deep and the shallow stage: [(N, C_i, h_i, w_i)] -> (N, D, h_0, w_0)"""
        shallow, deep = inputs[0], inputs[-1]
        parts = [resize_like(self.image_pool(deep), deep)]
        parts += [branch(deep) for branch in self.aspp_modules]
        deep = self.bottleneck(torch.cat(parts, dim=1))
        both = [resize_like(deep, shallow), self.c1_bottleneck(shallow)]
        return self.sep_bottleneck(torch.cat(both, dim=1))
