"""Losses for labels that are partly wrong."""

from typing import Annotated

import torch
from annotated_types import Interval
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import Fraction, NotNegative, Positive, validated
from mmseg.utils.tensors import bincount

from .losses import cross_entropy

BALANCE_MEMORY = 0.99
Below1 = Annotated[float, Interval(ge=0, lt=1)]


class RobustLoss(nn.Module):
    """Cross entropy whose pixels weigh by the confidence and the rarity of their label.

    Each switch works alone or with others. With all off it is plain cross entropy.

    Args:
        num_classes: C.
        confidence_power: a pseudo-labelled pixel weighs its probability to this power; 0 for 1.
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
        balance: NotNegative = 0.0,
        balance_memory: Below1 = BALANCE_MEMORY,
        balance_most: Positive = 5.0,
        smoothing: Below1 = 0.0,
        gce: Fraction = 0.0,
    ) -> None:
        super().__init__()
        if smoothing and gce:
            raise UserError('model.robust_loss: smoothing and gce exclude each other')
        self.confidence_power, self.smoothing, self.gce = confidence_power, smoothing, gce
        self.balance = None
        if balance:
            self.balance = ClassBalance(
                num_classes, power=balance, memory=balance_memory, most=balance_most
            )

    @property
    def reads_confidence(self) -> bool:
        """Whether the loss needs the confidence of pseudo-labels."""
        return self.confidence_power > 0

    def forward(
        self, logits: Tensor, target: Tensor, confidence: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum the weighted loss: (N, C, h, w), (N, H, W) -> loss (), correct (); `cross_entropy`

        Args:
            confidence: (N, H, W) in 0..1, 1 for annotated pixels; None for 1 everywhere.
        """
        weight = None
        if self.reads_confidence and confidence is not None:
            weight = confidence**self.confidence_power
        if self.balance is not None:
            rarity = self.balance(target)
            weight = rarity if weight is None else weight * rarity
        return cross_entropy(logits, target, weight, smoothing=self.smoothing, gce=self.gce)


class ClassBalance(nn.Module):
    """Weigh classes by their rarity among the labelled pixels so far.

    The shares are a buffer and so in the checkpoint: a resumed run continues with the same weights.
    All processes count together.

    Args:
        power: weight ~ share ** -power, scaled to mean 1 over the pixels.
        memory: share of the earlier counts that a step keeps.
        most: upper limit of a weight.
    """

    class_shares: Tensor

    def __init__(
        self, num_classes: int, *, power: float, memory: float = BALANCE_MEMORY, most: float = 5.0
    ) -> None:
        super().__init__()
        self.power, self.memory, self.most = power, memory, most
        self.register_buffer('class_shares', torch.zeros(num_classes))

    def forward(self, target: Tensor) -> Tensor:
        """Count labels and weigh their pixels: (N, H, W) -> (N, H, W), any where ignored"""
        self.count(target)
        return self.weights()[target.clamp(0, len(self.class_shares) - 1)]

    @torch.no_grad()
    def count(self, target: Tensor) -> None:
        """Add the shares of a batch of labels, of all processes."""
        classes = len(self.class_shares)
        counts = bincount(target.clamp_max(classes).flatten(), classes + 1)[:-1]
        counts = counts.to(self.class_shares)
        all_reduce(counts)
        self.class_shares.mul_(self.memory).add_(counts / counts.sum().clamp_min(1))

    def weights(self) -> Tensor:
        """Return the weights of the classes (C)."""
        share = (self.class_shares / self.class_shares.sum().clamp_min(1e-12)).clamp_min(1e-6)
        weights = share**-self.power
        return (weights / (share * weights).sum()).clamp_max(self.most)
