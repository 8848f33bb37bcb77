"""MaskCLIP's two training-free refinements (ECCV 2022, section 3.3): scores in, scores out."""

import torch
import torch.nn.functional as F
from torch import Tensor

LOGIT_SCALE = 100.0  # CLIP's learnt temperature, at its cap
ABSENT = -100.0  # far below any cosine
KEY_AXES = {'channels': 2, 'positions': 1}  # of keys (N, h*w, K)


def prompt_denoise(
    scores: Tensor, *, threshold: float, spare_empty: bool = True, one_photo: bool = False
) -> Tensor:
    """(N, C, h, w) cosines -> the same, with the classes that an image lacks at -100.

    An image has a class if the best probability of the class over all places reaches the threshold.
    With several prompts a class, each prompt is judged by itself.

    Args:
        threshold: in 0..1; 0 changes nothing.
        spare_empty: leave an image alone in which no class reaches it (the original sets all
            classes to -100 there, and the label map to class 0).
        one_photo: the N maps are the windows of one photo, and the decision is the photo's.
    """
    if threshold <= 0:
        return scores
    places = (0, 2, 3) if one_photo else (2, 3)
    best = F.softmax(scores * LOGIT_SCALE, dim=1).amax(dim=places, keepdim=True)
    absent = best < threshold
    if spare_empty:
        absent = absent & ~absent.all(dim=1, keepdim=True)
    return scores.masked_fill(absent, ABSENT)


def key_smooth(scores, keys, *, threshold, over='channels', normalize_rows=True) -> Tensor:
    """(N, C, h, w) cosines, (N, h*w, K) -> (N, C, h, w) PROBABILITIES: the unit changes.

    Places whose best probability is below the threshold take the average of all places, weighted
    by the cosine of their keys (equation 2). No h*w x h*w matrix is made: K (K^T P) = (K K^T) P.

    Args:
        threshold: in 0..1; 0 changes nothing and keeps cosines; 1 smooths every place.
        over: normalise keys over 'channels', or over 'positions' (as in the original code, Q1).
        normalize_rows: weights of a place sum to 1 (without it, Q13, sums reach hundreds).
    """
    if threshold <= 0:
        return scores
    probs = F.softmax(scores * LOGIT_SCALE, dim=1)
    flat = probs.flatten(2).transpose(1, 2)  # (N, hw, C)
    keys = F.normalize(keys, dim=KEY_AXES[over])
    smooth = keys @ (keys.transpose(1, 2) @ flat)
    if normalize_rows:
        smooth = _to_probability(smooth, keys @ keys.sum(dim=1).unsqueeze(2), flat)
    unsure = probs.amax(dim=1, keepdim=True) < threshold
    return torch.where(unsure, smooth.transpose(1, 2).unflatten(2, scores.shape[2:]), probs)


def _to_probability(smooth, total, fallback):
    """(N, hw, C), (N, hw, 1) row sums, (N, hw, C) -> rows that sum to 1 without negative entries.

    A place that nothing resembles (row sum not positive) keeps what it had.
    """
    mean = (smooth / total.clamp_min(1e-6)).clamp_min(0)
    mean = mean / mean.sum(dim=2, keepdim=True).clamp_min(1e-6)
    return torch.where(total > 1e-6, mean, fallback)
