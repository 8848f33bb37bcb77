"""The class weight: one vector per image that lifts the classes CLIP sees in it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .refine import LOGIT_SCALE


class ClassWeight(nn.Module):
    """softmax(embedding . text / tau) * C, so that the mean over the classes is 1.

    Args:
        text: (C, D) rows of the weigher's own text embeddings.
        tau: temperature in raw cosines, without CLIP's factor 100 (Q7): tau 1 gives weights of
        about
            0.93 to 1.08, tau 0.25 of about 0.73 to 1.33, tau 0.01 CLIP's own posterior.
        sum_to_one: leave out the factor C (as in the original's MaskCLIP, Q5): scores shrink C-fold
            and thresholds behind the weight change their meaning.
    """

    def __init__(self, text, *, tau, sum_to_one=False):
        super().__init__()
        self.tau, self.sum_to_one = tau, sum_to_one
        self.register_buffer('text', text.detach().clone(), persistent=False)

    def forward(self, embedding) -> Tensor:
        """(N, D) unit norm -> (N, C)"""
        weight = F.softmax(embedding @ self.text.T.to(embedding.dtype) / self.tau, dim=-1)
        return weight if self.sum_to_one else weight * len(self.text)


def reweight(scores, weight, *, mode='multiply', signed=False) -> Tensor:
    """(N, C, h, w), (N, C) or None -> (N, C, h, w); a weight of None or of ones changes no bit.

    Args:
        mode: 'multiply' scales the scores (as published); 'add' adds log(weight) / 100 to cosines,
            which multiplies the class probabilities softmax(100 * scores) by the weight.
        signed: multiply negative scores too (as published, Q4): among them the class that is held
            absent wins. By default they are divided by the weight, so that more weight always
            lifts.
    """
    if weight is None:
        return scores
    weight = weight[:, :, None, None].to(scores.dtype)
    if mode == 'add':
        return scores + weight.log() / LOGIT_SCALE
    if signed:
        return scores * weight
    return torch.where(scores < 0, scores / weight, scores * weight)
