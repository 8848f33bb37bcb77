"""A loss against labels that are partly wrong: each switch alone or together, off by default."""

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import count_unasked, require_number, require_pair

from .resized import cross_entropy

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
