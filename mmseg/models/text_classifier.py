import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.kernels import pointwise


class TextClassifier(nn.Module):
    """A 1x1 convolution with a frozen kernel, the text: stands where a decode head has conv_seg.

    Args:
        embeddings: (C, D), one row a class.
        normalize: scale the features to unit length, so that unit rows give cosines.
        persistent: keep the text in checkpoints, so that a student needs no CLIP to be used.
        learned: ids of classes whose rows are unit vectors that training finds, for what words do
            not say, such as a background.
    """

    def __init__(self, embeddings, *, normalize, persistent=False, learned=()):
        super().__init__()
        self.normalize = normalize
        self.register_buffer('embeddings', embeddings.detach().clone(), persistent=persistent)
        self.learned = None
        if learned:
            self.learned = nn.Parameter(torch.randn(len(learned), embeddings.shape[1]))
            self.register_buffer('learned_ids', torch.tensor(list(learned)), persistent=False)

    @property
    def num_classes(self):
        return len(self.embeddings)

    def forward(self, feats) -> Tensor:
        """(N, D, h, w) -> (N, C, h, w)"""
        if self.normalize:
            feats = F.normalize(feats, dim=1)
        return pointwise(feats, self.rows()[:, :, None, None].to(feats.dtype))

    def rows(self) -> Tensor:
        """-> (C, D)"""
        if self.learned is None:
            return self.embeddings
        return self.embeddings.index_copy(0, self.learned_ids, F.normalize(self.learned, dim=1))


def class_rows(rows, groups=None) -> Tensor:
    """(Q, D) rows of queries, (Q) class of each -> (C, D) unit means; None: as it is"""
    if groups is None:
        return rows
    index = torch.tensor(groups, device=rows.device)
    total = rows.new_zeros(int(index.max()) + 1, rows.shape[1]).index_add(0, index, rows)
    return F.normalize(total, dim=1)
