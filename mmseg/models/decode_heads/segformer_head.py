import torch
import torch.nn.functional as F
from torch import nn

from mmseg.kernels import is_plain, pointwise

from .decode_head import ConvModule, DecodeHead


class SegformerHead(DecodeHead):
    """SegFormer's all-MLP head: each stage to one width, to the first one's size, fused (3.2).

    Args:
        in_channels: of the backbone's outputs, all of which are read.
    """

    spare_in_original = True

    def __init__(self, in_channels, channels, classifier, *, dropout=0.1):
        super().__init__(channels, classifier, dropout=dropout)
        self.convs = nn.ModuleList(ConvModule(c, channels) for c in in_channels)
        self.fusion_conv = ConvModule(len(in_channels) * channels, channels)

    def forward_features(self, inputs):
        """a list of (N, C_i, h_i, w_i) -> (N, D, h_0, w_0)

        A 1x1 convolution and a bilinear resize commute: each stage is fused at its own size, which
        is a third of the products and needs no concatenation.
        """
        if is_plain():
            return self.fusion_conv(torch.cat(self._resized(self.parts(inputs)), dim=1))
        kernels = self.fusion_conv.conv.weight.chunk(len(self.convs), dim=1)
        parts = [pointwise(part, kernel) for part, kernel in zip(self.parts(inputs), kernels)]
        return self.fusion_conv.bn(sum(self._resized(parts))).relu()

    def parts(self, inputs):
        """a list of (N, C_i, h_i, w_i) -> [(N, D, h_i, w_i)]"""
        return [conv(x) for conv, x in zip(self.convs, inputs)]

    def _resized(self, parts):
        size = parts[0].shape[2:]
        first, *others = parts
        return [first] + [
            F.interpolate(part, size=size, mode='bilinear', align_corners=False) for part in others
        ]
