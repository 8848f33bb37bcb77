import torch.nn.functional as F
from torch import Tensor, nn


class TextClassifier(nn.Module):
    """A 1x1 convolution with a frozen kernel, the text: stands where a decode head has conv_seg.

    Args:
        embeddings: (C, D), one row a class.
        normalize: scale the features to unit length, so that unit rows give cosines.
        persistent: keep the text in checkpoints, so that a student needs no CLIP to be used.
    """

    def __init__(self, embeddings, *, normalize, persistent=False):
        super().__init__()
        self.normalize = normalize
        self.register_buffer('embeddings', embeddings.detach().clone(), persistent=persistent)

    @property
    def num_classes(self):
        return len(self.embeddings)

    def forward(self, feats) -> Tensor:
        """(N, D, h, w) -> (N, C, h, w)"""
        if self.normalize:
            feats = F.normalize(feats, dim=1)
        return F.conv2d(feats, self.embeddings[:, :, None, None].to(feats.dtype))
