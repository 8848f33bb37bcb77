"""Losses of a student, at the size of the target."""

from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor

from mmseg import kernels
from mmseg.structures import ignore_label

from .fused_cross_entropy import FusedCrossEntropy


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    gce: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Sum the loss over labelled pixels: (N, C, h, w), (N, H, W) -> loss (), correct pixels ()

    Equals `pixel_loss` of F.interpolate(logits), of which only a row chunk exists at a time. At 59
    classes the whole takes 54 MB for a crop of 480 pixels, softmax and gradient as much again.

    Args:
        weight: (N, H, W) of the pixels, without a gradient; None for 1.
        smoothing, gce: see `pixel_loss`.
    """
    if kernels.is_plain() or torch.compiler.is_compiling():
        return plain_cross_entropy(logits, target, weight, smoothing=smoothing, gce=gce)
    with torch.autocast(logits.device.type, enabled=False):
        return FusedCrossEntropy.apply(logits.float(), target, weight, smoothing, gce)


def plain_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    gce: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute `cross_entropy` by PyTorch's own functions."""
    logits = F.interpolate(logits.float(), target.shape[1:], mode='bilinear', align_corners=False)
    correct = (logits.argmax(dim=1) == target) & (target != ignore_label(logits.shape[1]))
    loss = pixel_loss(logits, target, smoothing=smoothing, gce=gce)
    return (loss if weight is None else loss * weight).sum(), correct.sum()


def pixel_loss(
    logits: Tensor, target: Tensor, *, smoothing: float = 0.0, gce: float = 0.0
) -> Tensor:
    """Compute the loss of each pixel: (N, C, H, W), (N, H, W) -> (N, H, W), 0 where ignored.

    Args:
        smoothing: share of the target that is spread over all classes (Szegedy et al., CVPR 2016).
        gce: q in 0..1 of (1 - p^q) / q for the target's probability p (generalised cross entropy,
            Zhang and Sabuncu, NeurIPS 2018, eq. 6). It is cross entropy for q towards 0 and mean
            absolute error for 1: pixels that the student finds improbable weigh less.
    """
    ignore = ignore_label(logits.shape[1])
    loss = F.cross_entropy(
        logits, target, ignore_index=ignore, reduction='none', label_smoothing=smoothing
    )
    return -torch.expm1(-gce * loss) / gce if gce else loss


def count_pixels(target: Tensor, num_classes: int, over: Literal['labelled', 'all']) -> Tensor:
    """Count the pixels that a loss averages over, as the mean over the processes: (N, H, W) -> ()

    Gradients are averaged over the processes. A sum divided by this number therefore has the
    gradient of the mean over the pixels of all processes, however unequal their numbers are.
    """
    if over == 'labelled':
        pixels = (target != ignore_label(num_classes)).sum().float()
    else:
        pixels = torch.full((), float(target.numel()), device=target.device)
    all_reduce(pixels, 'mean')
    return pixels.clamp_min(1e-6)  # without a pixel the sums are 0


def distance(features: Tensor, dense: Tensor, labelled: Tensor) -> Tensor:
    """Sum feature distances over labelled pixels: (N, D, h, w), (N, D, h', w'), (N, H, W) -> ()

    A pixel's distance is the mean |features - unit dense| over D of its cell.
    """
    height, width = size = features.shape[2:]
    dense = F.interpolate(F.normalize(dense, dim=1), size, mode='bilinear', align_corners=False)
    share = F.adaptive_avg_pool2d(labelled[:, None].float(), (height, width))  # labelled in a cell
    distances = (features - dense).abs().mean(dim=1, keepdim=True)
    return (distances * share).sum() * (labelled.shape[1:].numel() / size.numel())
