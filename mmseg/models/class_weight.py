"""What the whole image says of the classes in it, put onto the scores of its places."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import require_choice, require_number
from mmseg.utils.checkpoint import require_finite
from mmseg.utils.tensors import index_of

from .refine import ABSENT, LOGIT_SCALE

LEAST = dict(multiply=1e-3, add=1e-12)  # a small tau drives weights to 0: no inverse, no logarithm
TAU = (1e-4, 1e4)  # below, cosines / tau overflow in half precision; above, weights are all 1
MODES = (*LEAST, 'blend', 'topk')


class ClassWeight(nn.Module):
    """An image-level prior; of modes 'multiply' and 'add' the weight is softmax(cosine / tau) * C.

    Its mean over the classes is 1. Cosines are those of the image's embedding with the text.

    Args:
        text: (C, D) rows of the prior_encoder's own text embeddings.
        tau: temperature in the range TAU, in raw cosines, without CLIP's factor 100 (Q7): tau 1
            gives weights of about 0.93 to 1.08, tau 0.25 of about 0.73 to 1.33, tau 0.01 CLIP's own
            posterior.
        mean_similarity: (C,) mean cosines of the classes with photos, subtracted first: what is
            seen more than mean_similarity is lifted. None subtracts nothing.
        sum_to_one: leave out the factor C (as in the original's MaskCLIP, Q5): scores shrink C-fold
            and thresholds behind the weight change their meaning.
        mode: 'multiply' or 'add', see `reweight`; 'blend' mixes the cosines themselves into those
            of the places (CASS, CVPR 2025: 0.75 local + 0.25 global); 'topk' takes out the
            classes that are not among the `k` of the image.
        signed: see `reweight`.
        alpha: of the image's cosines in 'blend'.
        k: classes that 'topk' leaves.
        keep: ids of rows that 'topk' leaves in any case, such as a background's.
        groups: (C) class of each row, ascending, where a class has several; None where every row is
            one. 'topk' counts classes, by the best of their rows; the other modes weigh rows.

    Raises:
        UserError: a setting that is out of range or missing, or `mean_similarity` has another
            length.
    """

    def __init__(
        self,
        text,
        *,
        tau=None,
        mean_similarity=None,
        sum_to_one=False,
        mode='multiply',
        signed=False,
        alpha=0.25,
        k=None,
        keep=(),
        groups=None,
    ):
        super().__init__()
        require_choice('class_weight.mode', mode, MODES)
        if mode in LEAST:
            require_number('class_weight.tau', tau, *TAU)
        require_number('class_weight.alpha', alpha, 0, 1)
        classes = len(text) if groups is None else len(set(groups))
        if mode == 'topk':
            require_number('class_weight.k', k, 1, classes, whole=True)
        self.tau, self.sum_to_one, self.mode, self.signed = tau, sum_to_one, mode, signed
        self.alpha, self.k, self.keep, self.groups = alpha, k, list(keep), groups
        mean_similarity = torch.as_tensor(
            [0.0] * len(text) if mean_similarity is None else mean_similarity
        ).to(text)
        require_finite(mean_similarity, 'class_weight.mean_similarity is', 'make it anew')
        if mean_similarity.shape != text.shape[:1]:
            raise UserError(
                f'class_weight.mean_similarity has {len(mean_similarity)} values for '
                f'{len(text)} classes'
            )
        self.register_buffer('text', text.detach().clone(), persistent=False)
        self.register_buffer('mean_similarity', mean_similarity.detach().clone(), persistent=False)

    def cosines(self, embedding) -> Tensor:
        """(N, D) unit norm -> (N, C), less the mean_similarity ones"""
        return embedding @ self.text.T.to(embedding.dtype) - self.mean_similarity.to(
            embedding.dtype
        )

    def forward(self, embedding) -> Tensor:
        """(N, D) unit norm -> (N, C) weights"""
        weight = F.softmax(self.cosines(embedding) / self.tau, dim=-1)
        return weight if self.sum_to_one else weight * len(self.text)

    def reweight(self, scores, embedding) -> Tensor:
        """(N, C, h, w), (N, D) unit norm -> (N, C, h, w)"""
        if self.mode == 'blend':
            return blend(scores, self.cosines(embedding), alpha=self.alpha)
        if self.mode == 'topk':
            present = top_classes(self.cosines(embedding), self.k, self.keep, self.groups)
            return scores.masked_fill(~present[:, :, None, None], ABSENT)
        return reweight(scores, self(embedding), mode=self.mode, signed=self.signed)


def blend(scores, cosines, *, alpha) -> Tensor:
    """(N, C, h, w), (N, C) -> (N, C, h, w): (1 - alpha) local + alpha global (CASS)"""
    return (1 - alpha) * scores.float() + alpha * cosines.float()[:, :, None, None]


def top_classes(cosines, k, keep=(), groups=None) -> Tensor:
    """(N, C) -> (N, C) bool: the highest classes of each image, and the rows of `keep`"""
    if groups is not None:
        index = index_of(cosines.device, *groups).expand_as(cosines)
        best = cosines.new_full((len(cosines), max(groups) + 1), -torch.inf)
        best = best.scatter_reduce(1, index, cosines, 'amax')
        present = top_classes(best, k).gather(1, index)
    else:
        present = torch.zeros_like(cosines, dtype=torch.bool)
        present.scatter_(1, cosines.topk(k, dim=1).indices, True)
    return present.index_fill(1, index_of(cosines.device, *keep), True) if keep else present


def reweight(scores, weight, *, mode='multiply', signed=False) -> Tensor:
    """(N, C, h, w), (N, C) or None -> (N, C, h, w); a weight of None or of ones changes no bit.

    Args:
        mode: 'multiply' scales the scores (as published); 'add' adds log(weight) / 100 to cosines,
            which multiplies the class probabilities softmax(100 * scores) by the weight.
        signed: multiply negative scores too (as published, Q4): among them the class that is held
            absent wins. By default they are divided by the weight: more weight always lifts.
    """
    if weight is None:
        return scores
    scores, weight = scores.float(), weight[:, :, None, None].float()
    if mode == 'multiply' and signed:
        return scores * weight
    weight = weight.clamp_min(LEAST[mode])
    if mode == 'add':
        return scores + weight.log() / LOGIT_SCALE
    return torch.where(scores < 0, scores / weight, scores * weight)
