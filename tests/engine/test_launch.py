"""Devices, process groups, precision and the optimizer's groups of an accelerator, without one."""

import pytest
import torch
import torch.distributed as dist
from conftest import ROOT
from mmengine.config import Config
from mmengine.dist import get_comm_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import loops

import mmseg.apis.train as training
from mmseg.apis import inference
from mmseg.engine import SegRunner, SegTestLoop, allow_tf32, device_of, init_processes, load_config
from mmseg.engine.optimizer import merge_groups
from mmseg.errors import UserError
from mmseg.models.backbones import MixVisionTransformer
from mmseg.models.engines import Engine


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, as far as anybody asks -> the devices that were made current"""
    current = []
    monkeypatch.setattr('mmseg.engine.launch.get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', current.append)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: current[-1])
    return current


def test_collectives_stay_on_the_device(two_gpus, monkeypatch):
    """mmengine moves what it sums to the device of the group's backend."""
    groups = []
    monkeypatch.setattr(dist, 'init_process_group', lambda *a, **k: groups.append((a, k)))
    variables = dict(RANK='1', LOCAL_RANK='1', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
    threads = str(torch.get_num_threads())  # which later tests keep
    for name, value in dict(variables, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads).items():
        monkeypatch.setenv(name, value)
    assert init_processes('pytorch', 'cuda') == 'cuda:1' and two_gpus == [1]
    ((positional, named),) = groups
    assert named['device_id'] == torch.device('cuda:1')
    monkeypatch.setattr('mmengine.dist.utils.is_distributed', lambda: True)
    monkeypatch.setattr('mmengine.dist.utils.get_default_group', lambda: None)
    backend = dict(zip(['backend'], positional), **named).get('backend', 'undefined')
    monkeypatch.setattr(dist, 'get_backend', lambda group: backend)
    assert get_comm_device() == torch.device('cuda:1')


def test_a_device_that_is_named_is_the_current_one(two_gpus):
    assert device_of('cuda:1') == 'cuda:1' and two_gpus == [1]
    assert device_of() == device_of('cuda') == 'cuda' and two_gpus == [1]
    assert device_of('cpu') == device_of('cpu:0') == 'cpu'
    for name in ('cuda:2', 'cuda:one', 'xpu:0'):
        with pytest.raises(UserError, match=f'no device {name!r} here'):
            device_of(name)


def test_fp32_is_ieee_unless_tf32_is_asked_for(two_gpus, monkeypatch):
    """PyTorch lets convolutions round their inputs to 10 bits of mantissa by default."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    def precisions():
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    try:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision('medium')
        device_of('cuda'), Engine('torch', 'tf32', 'cuda')
        assert precisions() == (True, 'medium')  # a look-up sets nothing
        monkeypatch.setattr(loops.TestLoop, 'run', lambda loop: precisions())
        loop, runner = SegTestLoop.__new__(SegTestLoop), SegRunner.__new__(SegRunner)
        for tf32, expected in ((True, (True, 'high')), (False, (False, 'highest'))):
            loop.engine = Engine('torch', 'tf32' if tf32 else 'fp32', 'cuda')
            assert loop.run() == expected
            allow_tf32(not tf32)
            runner.cfg, runner._distributed = dict(tf32=tf32), False
            runner.wrap_model(None, torch.nn.Identity())
            assert precisions() == expected
        allow_tf32()
        monkeypatch.setattr(inference, 'Segmenter', lambda *_, **__: precisions())
        assert inference.init_model(None) == (False, 'highest')
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def test_loaders_of_training_are_pinned(two_gpus, tmp_path, monkeypatch):
    for name in ('require_data', 'try_pipeline', 'metrics_of', 'require_best'):  # without photos
        monkeypatch.setattr(training, name, lambda *_: None)
    monkeypatch.setattr(SegRunner, 'from_cfg', lambda config: configs.append(config) or 1 / 0)
    configs, leaf = [], 'maskclip_plus_vit16_segformer_b0_480x480_8k_pascal_context_59.py'
    config = load_config(ROOT / 'configs/maskclip_plus/anno_free' / leaf)
    with pytest.raises(ZeroDivisionError):
        training.train(config, work_dir=tmp_path)
    for name in ('train_dataloader', 'val_dataloader'):
        assert configs[0][name].pin_memory


# Groups


@pytest.fixture(scope='module')
def student():
    return torch.nn.ModuleDict(
        dict(backbone=MixVisionTransformer('b0'), decode_head=torch.nn.Conv2d(4, 2, 1))
    )


def optimizer_of(model, schedule, **optimizer):
    settings = Config.fromfile(ROOT / f'configs/_base_/schedules/{schedule}.py').optim_wrapper
    settings.optimizer.update(optimizer)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return settings, build_optim_wrapper(model, settings).optimizer


def settings_of(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[p]: {k: v for k, v in group.items() if k != 'params'}
        for group in optimizer.param_groups
        for p in group['params']
    }


@pytest.mark.parametrize('schedule, most', [('adamw_8k', 4), ('adamw_8k_original', 3)])
def test_parameters_that_are_stepped_alike_are_one_group(student, schedule, most):
    """One fused kernel a group: SegFormer-b5 had 963 of them."""
    settings, one_by_one = optimizer_of(student, schedule)
    runner = SegRunner.__new__(SegRunner)
    runner.cfg, runner.model, runner._log_interval = {}, student, 10
    with DefaultScope.overwrite_default_scope('mmseg'):
        merged = runner.build_optim_wrapper(settings).optimizer
    assert len(one_by_one.param_groups) > 100 and len(merged.param_groups) == most
    assert settings_of(student, merged) == settings_of(student, one_by_one)


def test_merged_groups_take_the_same_steps_and_resume():
    def steps(count, merge, state=None):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
        groups = [dict(params=[p], weight_decay=0.1 * (p.ndim > 1)) for p in model.parameters()]
        optimizer = torch.optim.AdamW(groups, lr=0.1)
        if merge:
            merge_groups(optimizer)
            assert [len(group['params']) for group in optimizer.param_groups] == [1, 3]
        if state is not None:
            model.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()
        return model.state_dict(), optimizer.state_dict()

    whole, plain = steps(4, True), steps(4, False)
    resumed = steps(2, True, steps(2, True))
    for name, weight in plain[0].items():
        assert torch.equal(weight, whole[0][name]) and torch.equal(weight, resumed[0][name])
