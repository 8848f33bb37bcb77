"""The class weight: one vector per image that lifts the classes CLIP sees in it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError

from .refine import LOGIT_SCALE

MODES = ('multiply', 'add')
LEAST = dict(multiply=1e-3, add=1e-12)  # a small tau drives weights to 0: no inverse, no logarithm


class ClassWeight(nn.Module):
    """softmax(embedding . text / tau) * C, so that the mean over the classes is 1.

    Args:
        text: (C, D) rows of the weigher's own text embeddings.
        tau: temperature in raw cosines, without CLIP's factor 100 (Q7): tau 1 gives weights of
            about 0.93 to 1.08, tau 0.25 of about 0.73 to 1.33, tau 0.01 CLIP's own posterior.
        usual: (C,) mean cosines of the classes with photos, subtracted first: what is seen
            more than usual is lifted. None subtracts nothing.
        sum_to_one: leave out the factor C (as in the original's MaskCLIP, Q5): scores shrink C-fold
            and thresholds behind the weight change their meaning.
        mode, signed: see `reweight`.

    Raises:
        UserError: tau is not positive, the mode is unknown, or `usual` has another length.
    """

    def __init__(self, text, *, tau, usual=None, sum_to_one=False, mode='multiply', signed=False):
        super().__init__()
        if not isinstance(tau, (int, float)) or not tau > 0:
            raise UserError(f'class_weight.tau is a temperature above 0, not {tau!r}')
        if mode not in MODES:
            raise UserError(f'class_weight.mode is one of {", ".join(MODES)}, not {mode!r}')
        self.tau, self.sum_to_one, self.mode, self.signed = tau, sum_to_one, mode, signed
        usual = torch.as_tensor([0.0] * len(text) if usual is None else usual).to(text)
        if usual.shape != text.shape[:1]:
            raise UserError(f'class_weight.usual has {len(usual)} values for {len(text)} classes')
        self.register_buffer('text', text.detach().clone(), persistent=False)
        self.register_buffer('usual', usual.detach().clone(), persistent=False)

    def forward(self, embedding) -> Tensor:
        """(N, D) unit norm -> (N, C)"""
        cosines = embedding @ self.text.T.to(embedding.dtype) - self.usual.to(embedding.dtype)
        weight = F.softmax(cosines / self.tau, dim=-1)
        return weight if self.sum_to_one else weight * len(self.text)

    def reweight(self, scores, embedding) -> Tensor:
        """(N, C, h, w), (N, D) unit norm -> (N, C, h, w)"""
        return reweight(scores, self(embedding), mode=self.mode, signed=self.signed)


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
