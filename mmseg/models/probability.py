"""How probable the shown labels are, at the photo's size, chunk by chunk."""

import torch
from torch import Tensor

from .upsample import row_chunks


def confidence(scoring, labels, scores, down=None, across=None) -> Tensor:
    """(H, W) labels, (Q, h, w) and matrices to (H, W), or (Q, H, W) without -> (H, W) float32.

    A pixel has the softmax over the queries of its own scores, as `Scoring` has for its thresholds,
    and a class the probability of its best query. Where scores are probabilities, so is the result.
    """
    found, first, scale = [], 0, scoring.scale
    for chunk in row_chunks(scores, down, across):
        own = _own(scoring, chunk, labels[first : first + len(chunk)].long())
        if scale is not None:
            own = 1 / (chunk - own).mul_(scale).exp_().sum(dim=1, keepdim=True)
        found.append(own)
        first += len(chunk)
    return torch.cat(found)[:, 0]


def _own(scoring, scores, labels):
    """(rows, Q, W), (rows, W) -> (rows, 1, W): the best score of the queries of each label"""
    if scoring.groups is not None:
        scores = scoring.by_class(scores.transpose(0, 1)).transpose(0, 1)
    return scores.gather(1, labels[:, None])
