from typing import Any

from torch import Tensor, nn


class TimmBackbone(nn.Module):
    """A timm feature network (`features_only=True`) with the interface that decode heads expect.

    Args:
        body: the network.
        frozen: keep its weights and the statistics of its norms as they are: only the head learns.

    Attributes:
        channels: of the outputs.
    """

    def __init__(self, body: Any, /, *, frozen: bool = False) -> None:
        super().__init__()
        self.body = body.requires_grad_(False) if frozen else body
        self.is_frozen = frozen
        self.channels = tuple(body.feature_info.channels())

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Switch to training or evaluation; a frozen network stays in evaluation."""
        super().train(mode)
        if self.is_frozen:
            self.body.eval()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute features: (N, 3, H, W) normalised -> [(N, C_i, H / r_i, W / r_i)]"""
        outputs = self.body(image)
        return [
            out.permute(0, 3, 1, 2) if out.shape[1] != channels else out
            for out, channels in zip(outputs, self.channels)
        ]
