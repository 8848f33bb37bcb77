"""Losses at the size of a target, some rows at a time: the resized scores never exist as a whole.

At 59 classes they are 54 MB a crop of 480, and softmax, logarithm and gradients as many again.
"""

import torch
import torch.nn.functional as F

from mmseg import kernels
from mmseg.structures import ignore_label

from .upsample import bands, photo_matrices, slabs

CPU_ROWS = 8  # of the target at a time: scores and gradients fit a core's cache


def resized_slabs(scores, size):
    """(C, h, w), (H, W) -> yields ((R, C, W) scores of the next R rows), bilinearly resized"""
    return slabs(scores, *resizing(scores, size), CPU_ROWS)


def resizing(scores, size):
    """(C, h, w), (H, W) -> (H, h), (W, w): the grid spans the target"""
    return photo_matrices(scores, size, input_size=tuple(size), stride=None)


def cross_entropy(scores, target, weight=None, *, smoothing=0.0, gce=0.0):
    """(N, C, h, w), (N, H, W) -> the sum over labelled pixels, how many are right

    The same as the sum of `pixel_loss` of F.interpolate(scores), of which only a slab exists at a
    time.

    Args:
        weight: (N, H, W) that pixels count, without a gradient; None for 1.
        smoothing, gce: see `pixel_loss`.
    """
    if kernels.is_plain() or torch.compiler.is_compiling():
        return plain_cross_entropy(scores, target, weight, smoothing=smoothing, gce=gce)
    with torch.autocast(scores.device.type, enabled=False):
        return _CrossEntropy.apply(scores.float(), target, weight, smoothing, gce)


def averaged(total, right, target, num_classes, over):
    """What `cross_entropy` gives -> {'loss_ce': (), 'acc_seg': () in 0..100}

    Args:
        over: 'labelled' or 'all', the pixels of the mean.
    """
    pixels = target.numel()
    if over == 'labelled':
        pixels = (target != ignore_label(num_classes)).sum().clamp_min(1)
    return dict(loss_ce=total / pixels, acc_seg=100 * right / pixels)


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
    """The gradient is made with the loss: a slab's softmax is at hand once."""

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
            for (part, cells), slab in zip(
                bands(down, width, CPU_ROWS), slabs(one, down, across, CPU_ROWS)
            ):
                rows = slice(row, row + len(part))
                row += len(part)
                counts = None if weight is None else weight[i, rows]
                loss, right = _slab_loss(slab, target[i, rows], counts, smoothing, gce)
                sums.append(loss)
                rights.append(right)
                if wanted:  # slab now holds the gradient
                    wide[cells].addmm_(part.T, slab.flatten(1))
            if wanted:
                grad[i] = wide.unflatten(1, (len(one), -1)).transpose(0, 1) @ across
        ctx.save_for_backward(grad)
        right = torch.stack(rights).sum()
        ctx.mark_non_differentiable(right)
        return torch.stack(sums).sum(), right

    @staticmethod
    def backward(ctx, grad, _):
        return ctx.saved_tensors[0] * grad, None, None, None, None


def _slab_loss(slab, truth, weight, smoothing, gce):
    """(R, C, W), (R, W) -> loss (), right (); in the place of the scores stands their gradient"""
    labelled = truth != ignore_label(slab.shape[1])
    counted = labelled if weight is None else labelled * weight
    place = truth.where(labelled, 0)[:, None]
    best, label = slab.max(dim=1)
    right = ((label == truth) & labelled).sum()
    slab -= best[:, None]
    own = slab.gather(1, place)[:, 0]
    if smoothing:
        own = (1 - smoothing) * own + smoothing * slab.mean(dim=1)
    total = slab.exp_().sum(dim=1)
    loss = total.log() - own
    slope = counted  # of the loss against cross entropy
    if gce:
        slope = counted * (-gce * loss).exp()
        loss = -torch.expm1(-gce * loss) / gce
    slab *= (slope / total)[:, None]
    slope = slope.to(slab.dtype)
    if smoothing:
        slab -= (smoothing / slab.shape[1] * slope)[:, None]
    slab.scatter_add_(1, place, (smoothing - 1) * slope[:, None])
    return (loss * counted).sum(), right
