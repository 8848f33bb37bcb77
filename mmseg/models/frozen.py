"""Modules outside their owner's parameters and checkpoints: teachers, prior encoders."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn


class FrozenOwner(nn.Module):
    """A module whose `frozen` moves and converts with it."""

    frozen: dict[str, nn.Module]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        for module in self.frozen.values():
            module._apply(fn, recurse)
        return super()._apply(fn, recurse)


def frozen_modules(model: nn.Module, prefix: str = '') -> Iterator[tuple[str, nn.Module]]:
    """Yield the frozen modules of a model and of its parts, with names such as 'teacher'."""
    for name, owner in model.named_modules(prefix=prefix):
        if not isinstance(owner, FrozenOwner):
            continue
        for key, module in owner.frozen.items():
            path = f'{name}.{key}' if name else key
            yield path, module
            yield from frozen_modules(module, path)
