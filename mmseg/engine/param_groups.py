from mmengine.optim import DefaultOptimWrapperConstructor

from mmseg.errors import UserError
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MatrixDecayConstructor(DefaultOptimWrapperConstructor):
    """Weight decay on matrices and kernels only: not on norms, biases or other vectors.

    `paramwise_cfg=dict(lr_mult=dict(decode_head=10.0))` multiplies the learning rate of what a
    name starts with.
    """

    def add_params(self, params, module, prefix='', is_dcn_module=None):
        """Append one group a parameter."""
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
            params.append(dict(params=[parameter], lr=self.base_lr * factor, weight_decay=decay))


def merge_groups(optimizer):
    """Parameters that are stepped alike become one group of a new optimizer, in place.

    Constructors make one group a parameter, and a fused or foreach kernel steps a group.
    """
    merged = {}
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        first = merged.setdefault(repr(sorted(settings.items())), dict(settings, params=[]))
        first['params'] += group['params']
    optimizer.param_groups[:] = merged.values()
