import torch
import torch.nn.functional as F
from torch import nn

from .decode_head import ConvModule, DecodeHead, SeparableConvModule


class DepthwiseSeparableASPPHead(DecodeHead):
    """DeepLabv3+: atrous pyramid with image pooling, refined by a shallow stage (ECCV 2018).

    Args:
        in_channels: of the backbone's outputs; the first is the shallow stage, the last the deep.
        dilations: of the pyramid's branches; 1 makes a 1x1 convolution.
        c1_channels: width of the shallow stage beside the pyramid.
    """

    def __init__(
        self,
        in_channels,
        channels,
        classifier,
        *,
        dilations=(1, 12, 24, 36),
        c1_channels=48,
        dropout=0.1,
    ):
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

    def forward_features(self, inputs):
        shallow, deep = inputs[0], inputs[-1]
        parts = [_resize(self.image_pool(deep), deep)]
        parts += [branch(deep) for branch in self.aspp_modules]
        deep = self.bottleneck(torch.cat(parts, dim=1))
        both = [_resize(deep, shallow), self.c1_bottleneck(shallow)]
        return self.sep_bottleneck(torch.cat(both, dim=1))


def _resize(x, like):
    return F.interpolate(x, size=like.shape[2:], mode='bilinear', align_corners=False)
