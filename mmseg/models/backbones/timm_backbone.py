from torch import nn


class TimmBackbone(nn.Module):
    """A timm feature network (`features_only=True`) behind the face that decode heads know.

    Args:
        body: the built network; the builder makes it from a name.

    Attributes:
        channels: of the outputs.
    """

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.channels = tuple(body.feature_info.channels())

    def forward(self, image):
        """(N, 3, H, W) normalised -> a list of (N, C_i, H / r_i, W / r_i)"""
        outputs = self.body(image)
        return [
            out.permute(0, 3, 1, 2) if out.shape[1] != channels else out
            for out, channels in zip(outputs, self.channels)
        ]
