"""Losses of a student, at the size of the target: cross entropy in row chunks, robust losses."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmseg import kernels
from mmseg.errors import UserError
from mmseg.structures import ignore_label
from mmseg.utils import count_unasked, require_number, require_pair

from .postprocess import matrix_chunks, photo_matrices, row_chunks

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


BALANCE_MEMORY = 0.99


class RobustLoss(nn.Module):
    """Cross entropy whose pixels count by how sure and how rare their label is.

    With every switch off it is plain cross entropy.

    Args:
        num_classes: C.
        confidence_power: a pseudo-labelled pixel counts its probability to this power; 0 for all
            alike.
        confidence_ramp: (low, high): it counts 0 up to the probability `low`, 1 from `high` on, and
            linearly between; None for all alike.
        balance: a class counts its share of the labelled pixels to the power of minus this: 0.5 is
            the inverse square root, 1 makes all classes alike; 0 for none. See `ClassBalance`.
        balance_memory, balance_most: see `ClassBalance`.
        smoothing, gce: of label smoothing and generalised cross entropy, see `pixel_loss`.

    Raises:
        UserError: a value out of its range, or two switches that do the same.
    """

    def __init__(
        self,
        num_classes,
        *,
        confidence_power=0.0,
        confidence_ramp=None,
        balance=0.0,
        balance_memory=BALANCE_MEMORY,
        balance_most=5.0,
        smoothing=0.0,
        gce=0.0,
    ):
        super().__init__()
        where = 'model.robust_loss'
        require_number(f'{where}.confidence_power', confidence_power, 0)
        require_number(f'{where}.balance', balance, 0)
        require_number(f'{where}.balance_memory', balance_memory, 0, below=1)
        require_number(f'{where}.balance_most', balance_most, above=0)
        require_number(f'{where}.smoothing', smoothing, 0, below=1)
        require_number(f'{where}.gce', gce, 0, 1)
        if smoothing and gce:
            raise UserError(f'{where}: smoothing and gce exclude each other')
        if confidence_ramp is not None:
            require_pair(f'{where}.confidence_ramp', confidence_ramp, least=0, most=1, ordered=True)
            if confidence_power or confidence_ramp[0] == confidence_ramp[1]:
                raise UserError(
                    f'{where}: confidence_ramp needs low < high, and no confidence_power beside it'
                )
        self.confidence_power, self.confidence_ramp = confidence_power, confidence_ramp
        self.smoothing, self.gce = smoothing, gce
        self.balance = None
        if balance:
            self.balance = ClassBalance(
                num_classes, power=balance, memory=balance_memory, most=balance_most
            )

    @property
    def reads_confidence(self):
        return bool(self.confidence_power or self.confidence_ramp)

    def forward(self, scores, target, confidence=None):
        """-> the weighted sum over labelled pixels, how many are right; see `cross_entropy`

        Args:
            scores: (N, C, h, w) logits.
            target: (N, H, W) labels, `ignore_label` ignored.
            confidence: (N, H, W) in 0..1, 1 where somebody labelled; None for 1 everywhere.
        """
        weight = None
        if self.reads_confidence and confidence is not None:
            weight = confidence_weight(
                confidence, power=self.confidence_power, ramp=self.confidence_ramp
            )
        if self.balance is not None:
            rarity = self.balance(target)
            weight = rarity if weight is None else weight * rarity
        return cross_entropy(scores, target, weight, smoothing=self.smoothing, gce=self.gce)


RobustLoss.not_from_config = {'num_classes'}


def confidence_weight(confidence, *, power=0.0, ramp=None) -> Tensor:
    """Probabilities of any shape -> weights in 0..1: `confidence` ** power, or the linear ramp"""
    if ramp is None:
        return confidence**power
    low, high = ramp
    return ((confidence - low) / (high - low)).clamp(0, 1)


class ClassBalance(nn.Module):
    """Weights of classes by how rare they have been among the labelled pixels so far.

    The shares are a buffer and so in the checkpoint: a resumed run goes on with the same weights.
    Processes count together.

    Args:
        power: weight ~ share ** -power, scaled so that the mean over pixels is 1.
        memory: what a step keeps of the steps before it.
        most: no weight is larger.
    """

    def __init__(self, num_classes, *, power, memory=BALANCE_MEMORY, most=5.0):
        super().__init__()
        self.power, self.memory, self.most = power, memory, most
        self.register_buffer('seen', torch.zeros(num_classes))

    def forward(self, target) -> Tensor:
        """(N, H, W) labels -> (N, H, W) weights, after counting them; any where it is ignored"""
        self.count(target)
        return self.weights()[target.clamp(0, len(self.seen) - 1)]

    @torch.no_grad()
    def count(self, target):
        """Add the shares of a batch of labels, of all processes."""
        counts = count_unasked(target.clamp_max(len(self.seen)).flatten(), len(self.seen) + 1)
        counts = counts[:-1].to(self.seen)
        all_reduce(counts)
        self.seen.mul_(self.memory).add_(counts / counts.sum().clamp_min(1))

    def weights(self) -> Tensor:
        """-> (C)"""
        share = (self.seen / self.seen.sum().clamp_min(1e-12)).clamp_min(1e-6)
        weights = share**-self.power
        return (weights / (share * weights).sum()).clamp_max(self.most)
