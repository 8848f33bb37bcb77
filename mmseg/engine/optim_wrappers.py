"""mmengine's optimizer wrappers, for batches that are read in parts and for bfloat16 on the CPU."""

from contextlib import contextmanager

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from mmseg.registry import OPTIM_WRAPPERS


class WeightedParts:
    """Weigh the parts of an accumulated batch by the pixels that their losses are means over.

    mmengine weighs them alike; a part with few labelled pixels then counts too much. Here the
    stored gradient is always that of the mean over all pixels so far: a part joins it by its share
    (`loss_pixels` of the model; parts of models without it count alike). Nothing is read from the
    device.
    """

    pixels_so_far = 0.0

    @contextmanager
    def optim_context(self, model):
        self.trained = getattr(model, 'module', model)
        with super().optim_context(model):
            yield

    def scale_loss(self, loss):
        if self._accumulative_counts == 1:
            return loss
        pixels = getattr(self.trained, 'loss_pixels', 1.0)
        self.pixels_so_far = self.pixels_so_far + pixels
        share = pixels / self.pixels_so_far
        parameters = [p for group in self.param_groups for p in group['params']]
        if gradients := [p.grad for p in parameters if p.grad is not None]:
            torch._foreach_mul_(gradients, 1 - share)
        return loss * share

    def zero_grad(self, **kwargs):
        self.pixels_so_far = 0.0
        super().zero_grad(**kwargs)


@OPTIM_WRAPPERS.register_module(name='OptimWrapper')
class WeightedOptimWrapper(WeightedParts, OptimWrapper):
    """mmengine's OptimWrapper with `WeightedParts`."""


@OPTIM_WRAPPERS.register_module(name='AmpOptimWrapper')
class WeightedAmpOptimWrapper(WeightedParts, AmpOptimWrapper):
    """mmengine's AmpOptimWrapper with `WeightedParts`."""


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(WeightedOptimWrapper):
    """bfloat16 autocast on the CPU, which mmengine's AmpOptimWrapper refuses; needs no scaling."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
