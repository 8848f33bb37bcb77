"""Group parameters for the optimizer, and step it for batches that are read in parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch.optim import Optimizer

from mmseg.errors import UserError
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


class WeightedParts(OptimWrapper):
    """Weigh the parts of an accumulated batch by the pixels that their losses are means over.

    mmengine weighs them equally; a part with few labelled pixels then counts too much. Here the
    stored gradient is always that of the mean over all pixels so far: a part is added with its
    share (`loss_pixels` of the model; parts of models without it count equally). Nothing is read
    from the device.
    """

    pixels_so_far: Tensor | float = 0.0

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        self.trained = getattr(model, 'module', model)
        with super().optim_context(model):
            yield

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Weigh the loss of a part, and the gradient of the parts before it."""
        if self._accumulative_counts == 1:
            return loss
        pixels = getattr(self.trained, 'loss_pixels', 1.0)
        self.pixels_so_far = self.pixels_so_far + pixels
        share = pixels / self.pixels_so_far
        parameters = [p for group in self.param_groups for p in group['params']]
        if gradients := [p.grad for p in parameters if p.grad is not None]:
            torch._foreach_mul_(gradients, 1 - share)
        return loss * share

    def zero_grad(self, **options: Any) -> None:
        """Forget the parts so far."""
        self.pixels_so_far = 0.0
        super().zero_grad(**options)


@OPTIM_WRAPPERS.register_module(name='OptimWrapper')
class WeightedOptimWrapper(WeightedParts):
    """mmengine's OptimWrapper with `WeightedParts`."""


@OPTIM_WRAPPERS.register_module(name='AmpOptimWrapper')
class WeightedAmpOptimWrapper(WeightedParts, AmpOptimWrapper):
    """mmengine's AmpOptimWrapper with `WeightedParts`."""


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(WeightedOptimWrapper):
    """bfloat16 autocast on the CPU, which mmengine's AmpOptimWrapper refuses; needs no scaling."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@OPTIMIZERS.register_module(name='MuonAdamW')
def build_muon(params: Any, *, lr: float, weight_decay: float) -> Optimizer:
    """Build timm's Muon (Jordan et al., 2024, with the scale of Liu et al., arXiv:2502.16982).

    It steps matrices, with Nesterov's momentum; vectors, and groups with `use_fallback`, are
    stepped by AdamW, with the same momentum (NAdamW) and a fifth of the learning rate.

    Args:
        params: groups.
        lr: of Muon.
    """
    from timm.optim import Muon

    options: Any = dict(momentum=0.95, nesterov=True, betas=(0.9, 0.98), fallback_lr_scale=0.2)
    return Muon(params, lr=lr, weight_decay=weight_decay, **options)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MatrixDecayConstructor(DefaultOptimWrapperConstructor):
    """Apply weight decay to matrices and kernels only: not to norms, biases or other vectors.

    `paramwise_cfg=dict(lr_mult=dict(decode_head=10.0))` multiplies the learning rate of parameters
    whose names start with 'decode_head'. `paramwise_cfg=dict(adamw=['embedding'])` leaves matrices
    whose names contain 'embedding' to AdamW where the optimizer is Muon.
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: bool | None = None,
    ) -> None:
        """Append one group per parameter."""
        factors = self.paramwise_cfg.get('lr_mult', {})
        names = dict(module.named_parameters())
        for start in factors:
            if not any(name.startswith(start) for name in names):
                raise UserError(f'paramwise_cfg.lr_mult: no parameter starts with {start!r}')
        for name, parameter in names.items():
            if not parameter.requires_grad:
                continue
            factor = next((f for start, f in factors.items() if name.startswith(start)), 1.0)
            decay = self.base_wd if parameter.ndim > 1 else 0.0
            group = dict(params=[parameter], lr=self.base_lr * factor, weight_decay=decay)
            if any(part in name for part in self.paramwise_cfg.get('adamw', ())):
                group['use_fallback'] = True
            params.append(group)


def merge_groups(optimizer: Optimizer) -> None:
    """Merge groups with equal settings into one, in place; the optimizer must be new.

    Constructors make one group per parameter, and a fused or foreach kernel steps one group.
    """
    merged: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        first = merged.setdefault(repr(sorted(settings.items())), dict(settings, params=[]))
        first['params'] += group['params']
    optimizer.param_groups[:] = merged.values()
