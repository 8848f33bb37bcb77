"""Scores at the size of a target, some rows at a time: the resized scores never exist as a whole.

At 59 classes they are 54 MB a crop of 480, and softmax, logarithm and gradients as many again.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F

from mmseg import kernels
from mmseg.structures import IGNORE

from .upsample import bilinear_matrix

CPU_ROWS, ROWS = 8, 128  # of the target at a time: what a core's cache holds; what fills a GPU


def slabs(scores, size):
    """(C, h, w), (H, W) -> yields ((R, C, W) scores of the next R rows), bilinearly resized"""
    across, bands = matrices(tuple(scores.shape[1:]), tuple(size), scores.device)
    wide = (scores.float() @ across.T).transpose(0, 1).flatten(1)  # (h, C * W)
    for first, last, down in bands:
        yield (down @ wide[first:last]).unflatten(1, (len(scores), len(across)))


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def matrices(cells, size, device):
    """(h, w), (H, W) -> (W, w), [(first cell, behind the last, (R, their number))] on the device"""
    across = bilinear_matrix(size[1], cells[1]).to(device, torch.float32)
    bands = []
    for down in bilinear_matrix(size[0], cells[0]).split(
        CPU_ROWS if device.type == 'cpu' else ROWS
    ):
        read = down.any(dim=0).nonzero()
        first, last = int(read[0]), int(read[-1]) + 1
        bands.append((first, last, down[:, first:last].to(device, torch.float32)))
    return across, bands


def cross_entropy(scores, target):
    """(N, C, h, w), (N, H, W) -> the sum over labelled pixels, how many are right

    The same as F.cross_entropy of F.interpolate(scores), of which only a slab exists at a time.
    """
    if kernels.is_plain() or torch.compiler.is_compiling():
        return plain_cross_entropy(scores, target)
    with torch.autocast(scores.device.type, enabled=False):
        return _CrossEntropy.apply(scores.float(), target)


def plain_cross_entropy(scores, target):
    """`cross_entropy` in PyTorch's own words"""
    scores = F.interpolate(scores, target.shape[1:], mode='bilinear', align_corners=False)
    right = (scores.argmax(dim=1) == target) & (target != IGNORE)
    return F.cross_entropy(scores, target, ignore_index=IGNORE, reduction='sum'), right.sum()


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made with the loss: a slab's softmax is at hand once."""

    @staticmethod
    def forward(ctx, scores, target):
        wanted = ctx.needs_input_grad[0]
        grad = torch.empty_like(scores) if wanted else None
        sums, rights = [], []
        for i, one in enumerate(scores):
            across, bands = matrices(tuple(one.shape[1:]), tuple(target.shape[1:]), one.device)
            wide = torch.zeros(one.shape[1], one.shape[0] * len(across), device=one.device)
            row = 0
            for (first, last, down), slab in zip(bands, slabs(one, target.shape[1:])):
                truth = target[i, row : row + len(down)]
                row += len(down)
                loss, right = _slab_loss(slab, truth)
                sums.append(loss)
                rights.append(right)
                if wanted:  # slab now holds the gradient
                    wide[first:last].addmm_(down.T, slab.flatten(1))
            if wanted:
                grad[i] = wide.unflatten(1, (len(one), -1)).transpose(0, 1) @ across
        ctx.save_for_backward(grad)
        right = torch.stack(rights).sum()
        ctx.mark_non_differentiable(right)
        return torch.stack(sums).sum(), right

    @staticmethod
    def backward(ctx, grad, _):
        return ctx.saved_tensors[0] * grad, None


def _slab_loss(slab, truth):
    """(R, C, W), (R, W) -> loss (), right (); in the place of the scores stands their gradient"""
    counted = truth != IGNORE
    place = truth.where(counted, 0)[:, None]
    best, label = slab.max(dim=1)
    right = ((label == truth) & counted).sum()
    slab -= best[:, None]
    own = slab.gather(1, place)[:, 0]
    total = slab.exp_().sum(dim=1)
    loss = ((total.log() - own) * counted).sum()
    slab *= (counted / total)[:, None]
    slab.scatter_add_(1, place, -counted[:, None].to(slab.dtype))
    return loss, right
