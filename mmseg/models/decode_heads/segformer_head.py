import torch
import torch.nn.functional as F
from torch import nn

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
        size = inputs[0].shape[2:]
        parts = [
            F.interpolate(conv(x), size=size, mode='bilinear', align_corners=False)
            for conv, x in zip(self.convs, inputs)
        ]
        return self.fusion_conv(torch.cat(parts, dim=1))
