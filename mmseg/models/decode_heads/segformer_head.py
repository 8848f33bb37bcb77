from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg.kernels import is_plain, pointwise
from mmseg.registry import MODELS
from mmseg.utils import Fraction, validated

from .decode_head import ConvModule, DecodeHead, resize_like


@MODELS.register_module()
class SegformerHead(DecodeHead):
    """SegFormer's all-MLP head: each stage to one width, to the first one's size, fused (3.2).

    Args:
        in_channels: of the backbone's outputs, all of which are read.
    """

    spare_in_original = True

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
        self.convs = nn.ModuleList(ConvModule(c, channels) for c in in_channels)
        self.fusion_conv = ConvModule(len(in_channels) * channels, channels)

    def forward_features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Fuse all stages: [(N, C_i, h_i, w_i)] -> (N, D, h_0, w_0)

        A 1x1 convolution and a bilinear resize commute. Each stage is therefore fused at its own
        size, with a third of the multiplications and no concatenation.
        """
        if is_plain():
            return self.fusion_conv(torch.cat(self._resized(self.parts(inputs)), dim=1))
        kernels = self.fusion_conv.conv.weight.chunk(len(self.convs), dim=1)
        parts = [pointwise(part, kernel) for part, kernel in zip(self.parts(inputs), kernels)]
        return self.fusion_conv.bn(sum(self._resized(parts))).relu()

    def parts(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Bring each stage to one width: [(N, C_i, h_i, w_i)] -> [(N, D, h_i, w_i)]"""
        return [conv(x) for conv, x in zip(self.convs, inputs)]

    def _resized(self, parts: list[Tensor]) -> list[Tensor]:
        """[(N, D, h_i, w_i)] -> [(N, D, h_0, w_0)]"""
        first, *others = parts
        return [first, *(resize_like(part, first) for part in others)]
