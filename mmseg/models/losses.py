"""Losses of a student, at the size of the target: cross entropy in row chunks, robust losses."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmseg import kernels
from mmseg.errors import UserError
from mmseg.structures import ignore_label
from mmseg.utils import Fraction, NotNegative, Positive, validated
from mmseg.utils.tensors import bincount

from .postprocess import matrix_chunks, photo_matrices, row_chunks

CPU_ROWS = 8  # of the target in a chunk: logits and gradients fit a core's cache
BALANCE_MEMORY = 0.99
Below1 = Annotated[float, Interval(ge=0, lt=1)]


# Cross entropy


def target_row_chunks(logits: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """Resize a grid to a target, some rows at a time: (C, h, w), (H, W) -> yields (R, C, W)"""
    return row_chunks(logits, *_matrices(logits, size), CPU_ROWS)


def _matrices(logits: Tensor, size: Sequence[int]) -> list[Tensor]:
    """(C, h, w), (H, W) -> (H, h), (W, w): the grid spans the target"""
    return photo_matrices(logits, size, input_size=tuple(size), stride=None)


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
        return _CrossEntropy.apply(logits.float(), target, weight, smoothing, gce)


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


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made with the loss: a chunk's softmax is at hand once."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        smoothing: float,
        gce: float,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        grad = torch.empty_like(logits) if wanted else None
        sums, correct_sums = [], []
        for i, one in enumerate(logits):
            down, across = _matrices(one, target.shape[1:])
            width = one.shape[0] * len(across)
            wide = torch.zeros(one.shape[1], width, device=one.device)
            row = 0
            for (part, cells), chunk in zip(
                matrix_chunks(down, width, CPU_ROWS), row_chunks(one, down, across, CPU_ROWS)
            ):
                rows = slice(row, row + len(part))
                row += len(part)
                pixel_weight = None if weight is None else weight[i, rows]
                loss, correct = _chunk_loss(chunk, target[i, rows], pixel_weight, smoothing, gce)
                sums.append(loss)
                correct_sums.append(correct)
                if wanted:  # chunk now holds the gradient
                    wide[cells].addmm_(part.T, chunk.flatten(1))
            if grad is not None:
                grad[i] = wide.unflatten(1, (len(one), -1)).transpose(0, 1) @ across
        ctx.save_for_backward(grad)
        correct = torch.stack(correct_sums).sum()
        ctx.mark_non_differentiable(correct)
        return torch.stack(sums).sum(), correct

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
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


# Robust losses


class RobustLoss(nn.Module):
    """Cross entropy whose pixels weigh by the confidence and the rarity of their label.

    Each switch works alone or with others. With all off it is plain cross entropy.

    Args:
        num_classes: C.
        confidence_power: a pseudo-labelled pixel weighs its probability to this power; 0 for 1.
        confidence_ramp: (low, high): it weighs 0 up to the probability `low`, 1 from `high` on, and
            linearly between; None for 1.
        balance: a class weighs its share of the labelled pixels to the power of minus this: 0.5 is
            the inverse square root, 1 makes all classes alike; 0 for none. See `ClassBalance`.
        balance_memory, balance_most: see `ClassBalance`.
        smoothing, gce: label smoothing and generalised cross entropy, see `pixel_loss`.

    Raises:
        UserError: a value out of range, or two switches for the same thing.
    """

    @validated
    def __init__(
        self,
        num_classes: int,
        /,
        *,
        confidence_power: NotNegative = 0.0,
        confidence_ramp: tuple[Fraction, Fraction] | None = None,
        balance: NotNegative = 0.0,
        balance_memory: Below1 = BALANCE_MEMORY,
        balance_most: Positive = 5.0,
        smoothing: Below1 = 0.0,
        gce: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if smoothing and gce:
            raise UserError('model.robust_loss: smoothing and gce exclude each other')
        if confidence_ramp is not None:
            low, high = confidence_ramp
            if confidence_power or low >= high:
                raise UserError(
                    'model.robust_loss: confidence_ramp needs low < high, and no confidence_power '
                    'beside it'
                )
        self.confidence_power, self.confidence_ramp = confidence_power, confidence_ramp
        self.smoothing, self.gce = smoothing, gce
        self.balance = None
        if balance:
            self.balance = ClassBalance(
                num_classes, power=balance, memory=balance_memory, most=balance_most
            )

    @property
    def reads_confidence(self) -> bool:
        """Whether the loss needs the confidence of pseudo-labels."""
        return bool(self.confidence_power or self.confidence_ramp)

    def forward(
        self, logits: Tensor, target: Tensor, confidence: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted loss: (N, C, h, w), (N, H, W) -> loss (), correct (); `cross_entropy`

        Args:
            confidence: (N, H, W) in 0..1, 1 for annotated pixels; None for 1 everywhere.
        """
        weight = None
        if self.reads_confidence and confidence is not None:
            weight = confidence_weight(
                confidence, power=self.confidence_power, ramp=self.confidence_ramp
            )
        if self.balance is not None:
            rarity = self.balance(target)
            weight = rarity if weight is None else weight * rarity
        return cross_entropy(logits, target, weight, smoothing=self.smoothing, gce=self.gce)


def confidence_weight(
    confidence: Tensor, *, power: float = 0.0, ramp: tuple[float, float] | None = None
) -> Tensor:
    """Turn probabilities into weights in 0..1: `confidence` ** power, or the linear ramp."""
    if ramp is None:
        return confidence**power
    low, high = ramp
    return ((confidence - low) / (high - low)).clamp(0, 1)


class ClassBalance(nn.Module):
    """Weights of classes by how rare they have been among the labelled pixels so far.

    The shares are a buffer and so in the checkpoint: a resumed run goes on with the same weights.
    All processes count together.

    Args:
        power: weight ~ share ** -power, scaled to mean 1 over the pixels.
        memory: share of the earlier counts that a step keeps.
        most: upper limit of a weight.
    """

    def __init__(
        self, num_classes: int, *, power: float, memory: float = BALANCE_MEMORY, most: float = 5.0
    ) -> None:
        super().__init__()
        self.power, self.memory, self.most = power, memory, most
        self.register_buffer('seen', torch.zeros(num_classes))

    def forward(self, target: Tensor) -> Tensor:
        """Count labels and weigh their pixels: (N, H, W) -> (N, H, W), any where ignored"""
        self.count(target)
        return self.weights()[target.clamp(0, len(self.seen) - 1)]

    @torch.no_grad()
    def count(self, target: Tensor) -> None:
        """Add the shares of a batch of labels, of all processes."""
        counts = bincount(target.clamp_max(len(self.seen)).flatten(), len(self.seen) + 1)
        counts = counts[:-1].to(self.seen)
        all_reduce(counts)
        self.seen.mul_(self.memory).add_(counts / counts.sum().clamp_min(1))

    def weights(self) -> Tensor:
        """Return the weights of the classes (C)."""
        share = (self.seen / self.seen.sum().clamp_min(1e-12)).clamp_min(1e-6)
        weights = share**-self.power
        return (weights / (share * weights).sum()).clamp_max(self.most)
