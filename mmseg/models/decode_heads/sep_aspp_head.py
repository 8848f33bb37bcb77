from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.registry import MODELS
from mmseg.utils import Count, Fraction, validated

from .decode_head import ConvModule, DecodeHead, SeparableConvModule


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
            ConvModule(deep, channels)
            if d == 1
            else SeparableConvModule(deep, channels, dilation=d)
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
        parts = [_resize(self.image_pool(deep), deep)]
        parts += [branch(deep) for branch in self.aspp_modules]
        deep = self.bottleneck(torch.cat(parts, dim=1))
        both = [_resize(deep, shallow), self.c1_bottleneck(shallow)]
        return self.sep_bottleneck(torch.cat(both, dim=1))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=False)
