from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.kernels import pointwise


class TextClassifier(nn.Module):
    """A 1x1 convolution whose frozen kernel is the text. It is the `conv_seg` of a decode head.

    Args:
        embeddings: (C, D), one row per class.
        normalize: scale features to unit length, so that unit rows give cosines.
        persistent: keep the text in checkpoints, so that a student needs no CLIP.
        learned: ids of classes with a learned unit vector in place of text, such as a background.
    """

    embeddings: Tensor
    learned_ids: Tensor

    def __init__(
        self,
        embeddings: Tensor,
        *,
        normalize: bool,
        persistent: bool = False,
        learned: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.register_buffer('embeddings', embeddings.detach().clone(), persistent=persistent)
        self.learned: nn.Parameter | None = None
        if learned:
            self.learned = nn.Parameter(torch.randn(len(learned), embeddings.shape[1]))
            self.register_buffer('learned_ids', torch.tensor(list(learned)), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Classify each position: (N, D, h, w) -> (N, C, h, w)"""
        if self.normalize:
            features = F.normalize(features, dim=1)
        return pointwise(features, self.rows()[:, :, None, None].to(features.dtype))

    def rows(self) -> Tensor:
        """Return the kernel (C, D), with its learned rows."""
        if self.learned is None:
            return self.embeddings
        return self.embeddings.index_copy(0, self.learned_ids, F.normalize(self.learned, dim=1))


def class_rows(rows: Tensor, groups: Sequence[int] | None = None) -> Tensor:
    """Average the rows of each class: (Q, D), (Q) class of each -> (C, D) of unit norm

    Args:
        groups: None returns the rows as they are.
    """
    if groups is None:
        return rows
    index = torch.tensor(groups, device=rows.device)
    total = rows.new_zeros(int(index.max()) + 1, rows.shape[1]).index_add(0, index, rows)
    return F.normalize(total, dim=1)
