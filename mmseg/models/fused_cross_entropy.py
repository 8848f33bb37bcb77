"""`cross_entropy` in row chunks of the target, whose gradient is computed with the loss."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmseg.structures import ignore_label

from .resize import matrix_chunks, photo_matrices, row_chunks

CPU_ROWS = 8  # of the target in a chunk: logits and gradients fit a core's cache


def target_row_chunks(logits: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """Resize a grid to a target, some rows at a time: (C, h, w), (H, W) -> yields (R, C, W)"""
    down, across = _matrices(logits, size)
    return row_chunks(logits, down, across, CPU_ROWS)


def _matrices(logits: Tensor, size: Sequence[int]) -> list[Tensor]:
    """(C, h, w), (H, W) -> (H, h), (W, w): the grid spans the target"""
    return photo_matrices(logits, size, input_size=tuple(size), stride=None)


class FusedCrossEntropy(torch.autograd.Function):
    """Cross entropy whose forward pass also computes the gradient, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        smoothing: float,
        gce: float,
    ) -> tuple[Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0]
        grad = torch.empty_like(logits) if needs_gradient else None
        sums, correct_sums = [], []
        for i, image_logits in enumerate(logits):
            down, across = _matrices(image_logits, target.shape[1:])
            width = image_logits.shape[0] * len(across)
            wide = torch.zeros(image_logits.shape[1], width, device=image_logits.device)
            row = 0
            for (part, cells), chunk in zip(
                matrix_chunks(down, width, CPU_ROWS),
                row_chunks(image_logits, down, across, CPU_ROWS),
            ):
                rows = slice(row, row + len(part))
                row += len(part)
                pixel_weight = None if weight is None else weight[i, rows]
                loss, correct = _chunk_loss(chunk, target[i, rows], pixel_weight, smoothing, gce)
                sums.append(loss)
                correct_sums.append(correct)
                if needs_gradient:  # chunk now holds the gradient
                    wide[cells].addmm_(part.T, chunk.flatten(1))
            if grad is not None:
                grad[i] = wide.unflatten(1, (len(image_logits), -1)).transpose(0, 1) @ across
        ctx.save_for_backward(grad)
        correct = torch.stack(correct_sums).sum()
        ctx.mark_non_differentiable(correct)
        return torch.stack(sums).sum(), correct

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grad, None, None, None, None


def _chunk_loss(
    chunk: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, gce: float
) -> tuple[Tensor, Tensor]:
    """(R, C, W), (R, W) -> loss (), correct (); the gradient replaces the logits in `chunk`"""
    labelled = target != ignore_label(chunk.shape[1])
    pixel_weight = labelled if weight is None else labelled * weight
    index = target.where(labelled, 0)[:, None]
    best, label = chunk.max(dim=1)
    correct = ((label == target) & labelled).sum()
    chunk -= best[:, None]
    logit = chunk.gather(1, index)[:, 0]
    if smoothing:
        logit = (1 - smoothing) * logit + smoothing * chunk.mean(dim=1)
    total = chunk.exp_().sum(dim=1)
    loss = total.log() - logit
    slope = pixel_weight  # of the loss against cross entropy
    if gce:
        slope = pixel_weight * (-gce * loss).exp()
        loss = -torch.expm1(-gce * loss) / gce
    chunk *= (slope / total)[:, None]
    slope = slope.to(chunk.dtype)
    if smoothing:
        chunk -= (smoothing / chunk.shape[1] * slope)[:, None]
    chunk.scatter_add_(1, index, (smoothing - 1) * slope[:, None])
    return (loss * pixel_weight).sum(), correct
