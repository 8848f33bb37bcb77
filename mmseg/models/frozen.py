"""Modules outside their owner's parameters and checkpoints: teachers, prior encoders."""

from collections.abc import Callable
from typing import Any

from torch import nn


class Frozen(dict[str, nn.Module]):
    """Named modules. A deep copy of their owner shares them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> 'Frozen':
        return Frozen(self)


class FrozenOwner(nn.Module):
    """A module whose `frozen` moves and converts with it."""

    frozen: Frozen

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        for module in self.frozen.values():
            module._apply(fn, recurse)
        return super()._apply(fn, recurse)
