"""Losses at the size of a target, some rows at a time: the resized scores never exist as a whole.

At 59 classes they are 54 MB a crop of 480, and softmax, logarithm and gradients as many again.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor

from mmseg import kernels
from mmseg.structures import ignore_label

from .upsample import matrix_chunks, photo_matrices, row_chunks

CPU_ROWS = 8  # of the target at a time: scores and gradients fit a core's cache


def resized_row_chunks(scores, size):
    """(C, h, w), (H, W) -> yields ((R, C, W) scores of the next R rows), bilinearly resized"""
    return row_chunks(scores, *resizing(scores, size), CPU_ROWS)


def resizing(scores, size):
    """(C, h, w), (H, W) -> (H, h), (W, w): the grid spans the target"""
    return photo_matrices(scores, size, input_size=tuple(size), stride=None)


def cross_entropy(scores, target, weight=None, *, smoothing=0.0, gce=0.0):
    """(N, C, h, w), (N, H, W) -> the sum over labelled pixels, how many are right

    The same as the sum of `pixel_loss` of F.interpolate(scores), of which only a chunk exists at a
    time.

    Args:
        weight: (N, H, W) that pixels count, without a gradient; None for 1.
        smoothing, gce: see `pixel_loss`.
    """
    if kernels.is_plain() or torch.compiler.is_compiling():
        return plain_cross_entropy(scores, target, weight, smoothing=smoothing, gce=gce)
    with torch.autocast(scores.device.type, enabled=False):
        return _CrossEntropy.apply(scores.float(), target, weight, smoothing, gce)


def count_pixels(target, num_classes, over) -> Tensor:
    """(N, H, W) -> (): the pixels that a loss is averaged over, their mean over the processes.

    Gradients are averaged over the processes. A sum divided by this number therefore has the
    gradient of the mean over the pixels of all processes, however unequal their numbers are.

    Args:
        over: 'labelled' or 'all' pixels.
    """
    if over == 'labelled':
        pixels = (target != ignore_label(num_classes)).sum().float()
    else:
        pixels = torch.full((), float(target.numel()), device=target.device)
    all_reduce(pixels, 'mean')
    return pixels.clamp_min(1e-6)  # without a pixel the sums are 0


def plain_cross_entropy(scores, target, weight=None, *, smoothing=0.0, gce=0.0):
    """`cross_entropy` in PyTorch's own words"""
    scores = F.interpolate(scores.float(), target.shape[1:], mode='bilinear', align_corners=False)
    right = (scores.argmax(dim=1) == target) & (target != ignore_label(scores.shape[1]))
    loss = pixel_loss(scores, target, smoothing=smoothing, gce=gce)
    return (loss if weight is None else loss * weight).sum(), right.sum()


def pixel_loss(scores, target, *, smoothing=0.0, gce=0.0):
    """(N, C, H, W) logits, (N, H, W) -> (N, H, W): 0 where the target is ignored.

    Args:
        smoothing: share of the target that is spread over all classes (Szegedy et al., CVPR 2016).
        gce: q in 0..1: (1 - p^q) / q of the target's probability p (generalised cross entropy,
            Zhang and Sabuncu, NeurIPS 2018, eq. 6): cross entropy for q towards 0, mean absolute
            error for 1; what the student finds improbable weighs less than in cross entropy.
    """
    ignore = ignore_label(scores.shape[1])
    loss = F.cross_entropy(
        scores, target, ignore_index=ignore, reduction='none', label_smoothing=smoothing
    )
    return -torch.expm1(-gce * loss) / gce if gce else loss


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made with the loss: a chunk's softmax is at hand once."""

    @staticmethod
    def forward(ctx, scores, target, weight, smoothing, gce):
        wanted = ctx.needs_input_grad[0]
        grad = torch.empty_like(scores) if wanted else None
        sums, rights = [], []
        for i, one in enumerate(scores):
            down, across = resizing(one, target.shape[1:])
            width = one.shape[0] * len(across)
            wide = torch.zeros(one.shape[1], width, device=one.device)
            row = 0
            for (part, cells), chunk in zip(
                matrix_chunks(down, width, CPU_ROWS), row_chunks(one, down, across, CPU_ROWS)
            ):
                rows = slice(row, row + len(part))
                row += len(part)
                counts = None if weight is None else weight[i, rows]
                loss, right = _chunk_loss(chunk, target[i, rows], counts, smoothing, gce)
                sums.append(loss)
                rights.append(right)
                if wanted:  # chunk now holds the gradient
                    wide[cells].addmm_(part.T, chunk.flatten(1))
            if wanted:
                grad[i] = wide.unflatten(1, (len(one), -1)).transpose(0, 1) @ across
        ctx.save_for_backward(grad)
        right = torch.stack(rights).sum()
        ctx.mark_non_differentiable(right)
        return torch.stack(sums).sum(), right

    @staticmethod
    def backward(ctx, grad, _):
        return ctx.saved_tensors[0] * grad, None, None, None, None


def _chunk_loss(chunk, truth, weight, smoothing, gce):
    """(R, C, W), (R, W) -> loss (), right (); in the place of the scores stands their gradient"""
    labelled = truth != ignore_label(chunk.shape[1])
    counted = labelled if weight is None else labelled * weight
    place = truth.where(labelled, 0)[:, None]
    best, label = chunk.max(dim=1)
    right = ((label == truth) & labelled).sum()
    chunk -= best[:, None]
    own = chunk.gather(1, place)[:, 0]
    if smoothing:
        own = (1 - smoothing) * own + smoothing * chunk.mean(dim=1)
    total = chunk.exp_().sum(dim=1)
    loss = total.log() - own
    slope = counted  # of the loss against cross entropy
    if gce:
        slope = counted * (-gce * loss).exp()
        loss = -torch.expm1(-gce * loss) / gce
    chunk *= (slope / total)[:, None]
    slope = slope.to(chunk.dtype)
    if smoothing:
        chunk -= (smoothing / chunk.shape[1] * slope)[:, None]
    chunk.scatter_add_(1, place, (smoothing - 1) * slope[:, None])
    return (loss * counted).sum(), right
