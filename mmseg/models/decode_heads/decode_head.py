from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.kernels import pointwise
from mmseg.utils import Fraction, validated


class DecodeHead(nn.Module):
    """A head on the features of a backbone. Its last step is always `conv_seg`.

    The builder passes a subclass (in_channels, channels, classifier), which passes the last two on.

    Args:
        channels: D of the features that `forward_features` returns.
        classifier: (N, D, h, w) -> (N, C, h, w), a 1x1 convolution or a TextClassifier.
        dropout: share of the channels that is dropped before the classifier, in training.
    """

    spare_in_original = False  # a 1x1 classifier beside the text, counted but never used

    @validated
    def __init__(self, channels: int, classifier: nn.Module, /, *, dropout: Fraction = 0.1) -> None:
        super().__init__()
        self.channels = channels
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier

    def forward_features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Combine the outputs of the backbone: [(N, C_i, h_i, w_i)] -> (N, D, h, w)"""
        raise NotImplementedError

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute class logits: [(N, C_i, h_i, w_i)] -> (N, C, h, w)"""
        return self.classify(self.forward_features(inputs))

    def classify(self, features: Tensor) -> Tensor:
        """Classify features: (N, D, h, w) -> (N, C, h, w)"""
        return self.conv_seg(self.dropout(features))


class ConvModule(nn.Module):
    """Convolution without bias, batch norm, ReLU, in mmsegmentation's parameter names."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h, w)"""
        is_pointwise = self.conv.kernel_size == (1, 1)
        return self.bn(pointwise(x, self.conv.weight) if is_pointwise else self.conv(x)).relu()


class SeparableConvModule(nn.Module):
    """A 3x3 convolution within each channel, then one across them, in mmsegmentation's names."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(inputs, inputs, 3, dilation=dilation, groups=inputs)
        self.pointwise_conv = ConvModule(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C', h, w)"""
        return self.pointwise_conv(self.depthwise_conv(x))


def resize_like(x: Tensor, other: Tensor) -> Tensor:
    """Resize bilinearly: (N, C, h, w), (N, ..., H, W) -> (N, C, H, W)"""
    return F.interpolate(x, size=other.shape[2:], mode='bilinear', align_corners=False)
