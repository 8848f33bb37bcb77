"""MaskCLIP's training-free refinements, prompt denoising and key smoothing (ECCV 2022, 3.3)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LOGIT_SCALE = 100.0  # CLIP's learnt temperature, at its cap
ABSENT = -100.0  # far below any cosine
KEY_AXES = {'channels': 2, 'positions': 1}  # of keys (N, h*w, K)


def prompt_denoise(
    logits: Tensor, *, threshold: float, spare_empty: bool = True, one_photo: bool = False
) -> Tensor:
    """Set the classes that an image does not show to -100: (N, C, h, w) cosines -> (N, C, h, w)

    An image shows a class if its best probability over all positions reaches the threshold. With
    several prompts per class, each prompt is judged by itself.

    Args:
        threshold: in 0..1; 0 changes nothing.
        spare_empty: keep an image unchanged if no class reaches the threshold. (The original sets
            all its classes to -100, and so the label map to class 0.)
        one_photo: the N maps are windows of one photo, which are judged together.
    """
    if threshold <= 0:
        return logits
    positions = (0, 2, 3) if one_photo else (2, 3)
    best = F.softmax(logits * LOGIT_SCALE, dim=1).amax(dim=positions, keepdim=True)
    absent = best < threshold
    if spare_empty:
        absent = absent & ~absent.all(dim=1, keepdim=True)
    return logits.masked_fill(absent, ABSENT)


def key_smooth(
    logits: Tensor,
    keys: Tensor,
    *,
    threshold: float,
    over: Literal['channels', 'positions'] = 'channels',
    normalize_rows: bool = True,
) -> Tensor:
    """Average positions by their keys: (N, C, h, w) cosines, (N, h*w, K) -> PROBABILITIES

    Positions whose best probability is below the threshold take the average of all positions,
    weighted by the cosine of their keys (equation 2). K (K^T P) = (K K^T) P saves the matrix of
    h*w x h*w.

    Args:
        threshold: in 0..1; 0 changes nothing and returns cosines; 1 smooths all positions.
        over: normalise keys over 'channels', or over 'positions' (as in the original code, Q1).
        normalize_rows: weights of a position sum to 1 (without it, Q13, sums reach hundreds).
    """
    if threshold <= 0:
        return logits
    probabilities = F.softmax(logits * LOGIT_SCALE, dim=1)
    rows = probabilities.flatten(2).transpose(1, 2)  # (N, h*w, C)
    keys = F.normalize(keys, dim=KEY_AXES[over])
    smooth = keys @ (keys.transpose(1, 2) @ rows)
    if normalize_rows:
        smooth = _to_probability(smooth, keys @ keys.sum(dim=1).unsqueeze(2), rows)
    unsure = probabilities.amax(dim=1, keepdim=True) < threshold
    smooth = smooth.transpose(1, 2).unflatten(2, logits.shape[2:])
    return torch.where(unsure, smooth, probabilities)


def _to_probability(smooth: Tensor, total: Tensor, fallback: Tensor) -> Tensor:
    """(N, h*w, C), (N, h*w, 1) row sums, (N, h*w, C) -> rows of sum 1 without negative entries

    Rows whose sum is not positive resemble no other and take the fallback.
    """
    mean = (smooth / total.clamp_min(1e-6)).clamp_min(0)
    mean = mean / mean.sum(dim=2, keepdim=True).clamp_min(1e-6)
    return torch.where(total > 1e-6, mean, fallback)
