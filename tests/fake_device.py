"""Steps on a GPU that is not there, and the list of all that would wait for it.

torch's FakeTensorMode computes devices, shapes and types of tensors without data, so that
`device='cuda:0'` needs no GPU: an operation on tensors of two devices raises here as it does there.
What a step must not do is wait for the device: read a value, copy between its memory and the host's
without `non_blocking`, or ask for a result whose shape depends on values. Each such operation is
listed with its line of ours.

Of a training step PyTorch's own backward pass is left out (it needs a CUDA context): gradients are
zeros. All else runs: autocast, loss scaling, the optimizer's fused kernel.
"""

import functools
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import mmengine
import pytest
import torch
from conftest import ROOT
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmseg.engine.optimizer import merge_groups
from mmseg.models import resize
from mmseg.structures import SegDataSample
from mmseg.utils.tensors import index_of

DEVICE = torch.device('cuda:0')
ROOTS = {'': f'{ROOT}/mmseg/', 'mmengine/': f'{Path(mmengine.__file__).parent}/'}
BY_VALUE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Wait(NamedTuple):
    """An operation that waits for the device, and the place that asks for it."""

    function: str
    line: str
    operation: str


class _Watch(TorchDispatchMode):
    """Append what waits to `waits`; a value that is read is 1, so that the step goes on."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, rule = kwargs or {}, _rule_of(func)
        if rule is not None and rule(*args, **kwargs):
            self.waits.append(Wait(*_place(), func.name()))
            if func is torch.ops.aten._local_scalar_dense.default:
                return args[0].dtype == torch.bool or 1
        try:
            return func(*args, **kwargs)
        except DynamicOutputShapeException as error:
            raise AssertionError(f'a shape depends on values: {self.waits[-1]}') from error


@functools.cache
def _rule_of(func):
    """An operator -> what says of its arguments whether it waits, or None where it never does"""
    name = func.name().split('.')[0]
    if name in RULES:
        return RULES[name]
    return None if BY_VALUE.isdisjoint(func.tags) else _reads


def _device(tensor):
    return getattr(tensor, 'fake_device', None) or tensor.device


def _reads(*args, **kwargs):
    return any(torch.is_tensor(t) and _device(t) == DEVICE for t in tree_leaves((args, kwargs)))


def _cast_waits(source, device=None, non_blocking=False, **_):
    moves = device is not None and torch.device(device).type != _device(source).type
    return moves and not non_blocking


def _copy_waits(target, source, non_blocking=False):
    return _device(target) != _device(source) and not non_blocking


def _index_waits(values, places, new=None, *_, **__):
    """A mask asks for its number of places, unless one value fills it; what the host has is sent"""
    places = [place for place in places if place is not None]
    if any(place.dtype in (torch.bool, torch.uint8) for place in places):
        return _device(values) == DEVICE and (new is None or new.numel() > 1)
    return len({_device(t) for t in (values, *places, new) if t is not None}) > 1


RULES = {
    'aten::_to_copy': _cast_waits,
    'aten::copy_': _copy_waits,
    'aten::index': _index_waits,
    'aten::index_put': _index_waits,
    'aten::index_put_': _index_waits,
    'aten::isin': _reads,  # on CUDA it looks for unique values first, where there are many
}


def _place():
    """-> ('file:function', 'file:line: its text') of the innermost frame in `mmseg` or mmengine"""
    for frame in reversed(traceback.extract_stack()):
        for name, root in ROOTS.items():
            if frame.filename.startswith(root):
                file = frame.filename.replace(root, name)
                return f'{file}:{frame.name}', f'{file}:{frame.lineno}: {frame.line}'
    return 'a test', 'a test'


def _backward(wrapper, loss, **_):
    """In place of OptimWrapper.backward and AmpOptimWrapper's: the gradients are zeros."""
    if isinstance(wrapper, AmpOptimWrapper):
        wrapper.loss_scaler.scale(loss)
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            parameter.grad = torch.zeros_like(parameter)
    wrapper._inner_count += 1


class FakeGpu:
    """A GPU without data: models are built as ever, moved to it, and run on it."""

    def __init__(self):
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def move(self, module):
        """In place to `DEVICE`, with its frozen parts -> the module"""
        with self.mode:
            for part in module.modules():
                _move_tensors(part)
                for other in getattr(part, 'frozen', {}).values():
                    if other is not None:
                        self.move(other)
        return module

    def run(self, step, *args):
        """-> what `step(*args)` gives, not watched"""
        with self.mode:
            return step(*args)

    def waits(self, step, *args):
        """-> [Wait] of `step(*args)`"""
        waits = []
        with self.mode, _Watch(waits):
            step(*args)
        return waits


def _move_tensors(part):
    for tensors in (part._parameters, part._buffers):
        for name, tensor in tensors.items():
            if tensor is not None:
                moved = tensor.detach().to(DEVICE)
                if isinstance(tensor, nn.Parameter):
                    moved = nn.Parameter(moved, tensor.requires_grad)
                tensors[name] = moved
    if isinstance(part, BaseDataPreprocessor):
        part._device = DEVICE


@contextmanager
def fake_gpu():
    """-> a FakeGpu, in which autocast and loss scaling believe"""
    kept = [index_of, resize._photo_matrix, resize._grid_matrix]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('torch.cuda.amp.common.amp_definitely_not_available', lambda: False)
        patch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: 1)
        patch.setattr('mmengine.runner.amp.get_device', lambda: 'cuda')
        for kind in (OptimWrapper, AmpOptimWrapper):
            patch.setattr(kind, 'backward', _backward)
        for function in kept:
            function.cache_clear()
        try:
            yield FakeGpu()
        finally:
            for function in kept:  # tensors without data
                function.cache_clear()


def batch(sizes=((48, 64),) * 2, **fields):
    """What a data loader gives: photos and samples in pinned memory"""
    samples = []
    for height, width in sizes:
        sample = SegDataSample(metainfo=dict(ori_shape=(75, 90), img_path='a.jpg'))
        sample.prior_crop = torch.zeros(3, 64, 64, dtype=torch.uint8)
        sample.gt_sem_seg = torch.zeros(75, 90, dtype=torch.uint8)
        for name, (size, kind) in fields.items():
            sample.set_data({name: torch.zeros(size or (height, width), dtype=kind)})
        samples.append(sample)
    photos = [torch.zeros(3, *size, dtype=torch.uint8) for size in sizes]
    return dict(inputs=photos, data_samples=samples)


class Small(nn.Conv2d):
    """One convolution as a backbone: in tests of what comes behind it"""

    channels = (8,)

    def __init__(self):
        super().__init__(3, 8, 8, stride=8)

    def forward(self, image):
        return [super().forward(image)]


def optimizer_of(model, amp, **options):
    """A model on the fake GPU -> its AdamW, as SegRunner makes it, with loss scaling if asked"""
    settings = dict(type='OptimWrapper', constructor='MatrixDecayConstructor', **options)
    if amp:
        settings.update(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
    settings['optimizer'] = dict(type='AdamW', lr=1e-4, weight_decay=0.01, fused=True)
    with DefaultScope.overwrite_default_scope('mmseg'):
        wrapper = build_optim_wrapper(model, dict(settings, paramwise_cfg=dict(lr_mult={})))
    merge_groups(wrapper.optimizer)
    return wrapper
