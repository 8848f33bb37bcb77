"""Runs that are stopped, resumed, read in parts or made longer, on a model of four numbers."""

import itertools
import os
import signal

import pytest
import torch
from conftest import ROOT, load_tool, run_script
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mmseg.apis.train import train
from mmseg.engine import SegRunner, read_settings, training_settings
from mmseg.errors import UserError
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS
from mmseg.structures import SegDataSample
from mmseg.utils.checkpoint import read_checkpoint

PHOTOS = 7
NUMBERS = itertools.count()


@DATASETS.register_module()
class FewNumbers(Dataset):
    metainfo = dict(classes=('one',), palette=[(0, 0, 0)])

    def __init__(self, seed=0):
        self.rows = torch.randn(PHOTOS, 3, generator=torch.manual_seed(0))

    def __len__(self):
        return PHOTOS

    def __getitem__(self, index):
        index, _ = index if isinstance(index, tuple) else (index, 0)
        return dict(inputs=self.rows[index], data_samples=SegDataSample())


@MODELS.register_module()
class FourNumbers(BaseModel):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.ones_(self.line.weight), nn.init.zeros_(self.line.bias)

    def forward(self, inputs, data_samples=None, mode='loss', step=None):
        if mode == 'predict':
            return data_samples
        rows = torch.stack(inputs)
        wanted = rows.square().sum(dim=1, keepdim=True)
        return dict(loss_square=(self.line(rows) - wanted).square().mean())


@METRICS.register_module()
class ScriptedScores(BaseMetric):
    """The mIoU of the validation at each iteration, written down beforehand."""

    script = {}

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(mIoU=self.script[RecordHook.iteration])


@HOOKS.register_module()
class RecordHook(Hook):
    """Notes the learning rate of each iteration, and sends this process a signal behind one."""

    iteration, rates, losses = 0, {}, {}

    def __init__(self, stop_in=None):
        self.stop_in = stop_in

    def before_train(self, runner):
        type(self).rates, type(self).losses = {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates[runner.iter + 1] = runner.optim_wrapper.get_lr()['lr'][0]
        if runner.iter + 1 == self.stop_in:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        type(self).iteration = runner.iter + 1
        self.losses[runner.iter + 1] = float(outputs['loss'].detach())


OURS = Config.fromfile(ROOT / 'configs' / '_base_' / 'train_runtime.py').default_hooks


def settings(iterations=10, *, stop_in=None, average=False, **options):
    hooks = [dict(type='RecordHook', stop_in=stop_in)]
    if average:
        hooks.append(dict(type='EMAHook', momentum=0.3))
    config = dict(
        default_scope='mmseg',
        model=dict(type='FourNumbers'),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='FewNumbers'),
            sampler=dict(type='StreamSampler'),
        ),
        train_cfg=dict(type='StreamTrainLoop', max_iters=iterations),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False),
            dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False),
        ],
        default_hooks=dict(
            checkpoint=dict(OURS.checkpoint, interval=2),
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
        ),
        log_processor=dict(by_epoch=False),
        custom_hooks=hooks,
        randomness=dict(seed=0),
        experiment_name=f'run {next(NUMBERS)}',  # or runs of one second share what they remember
    )
    config = Config(config, filename=__file__)
    config.merge_from_dict(options)
    return config


def run(folder, *arguments, **options):
    """Train `settings(...)` in a folder -> the learning rate of each iteration."""
    own = {name: options.pop(name) for name in ('accumulate', 'resume', 'seed') if name in options}
    train(settings(*arguments, **options), work_dir=folder, device='cpu', **own)
    return dict(RecordHook.rates)


def state(folder, iteration, part='state_dict'):
    return read_checkpoint(folder / f'iter_{iteration}.pth')[part]


def assert_same(found, expected, tolerance=0.0):
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=tolerance, rtol=tolerance)


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth') if path.name != 'latest.pth')


# Length and parts


@pytest.mark.parametrize('iterations', [8, 20])
def test_a_longer_or_shorter_run_goes_on_at_the_rates_of_its_length(tmp_path, iterations):
    whole = run(tmp_path / 'whole', iterations)
    run(tmp_path / 'run', 10, stop_in=6)
    resumed = run(tmp_path / 'run', iterations, resume='auto')
    assert resumed == {i: whole[i] for i in range(7, iterations + 1)}
    assert min(resumed.values()) >= 0 and resumed[iterations - 1] > 0


def test_a_finished_run_is_made_longer(tmp_path):
    run(tmp_path, 10)
    assert run(tmp_path, 20, resume='auto')[11] == pytest.approx(0.1 * (1 - 10 / 19))


def test_a_finished_run_says_so(tmp_path, capsys):
    run(tmp_path, 4)
    before = state(tmp_path, 4)
    capsys.readouterr()
    assert run(tmp_path, 4, resume='auto') == {}
    (line,) = [x for x in capsys.readouterr().out.splitlines() if 'run is finished' in x]
    assert 'iter_4.pth is at iteration 4 of 4: this run' in line
    assert_same(state(tmp_path, 4), before)


def test_a_run_does_not_become_shorter_than_it_is(tmp_path):
    run(tmp_path, 4)
    with pytest.raises(UserError, match='iter_4.pth is at iteration 4, beyond .*max_iters=3'):
        run(tmp_path, 3, resume='auto')


def test_settings_of_the_optimizer_are_those_of_the_config(tmp_path):
    run(tmp_path, 10, stop_in=6)
    options = {'optim_wrapper.optimizer.lr': 0.2, 'optim_wrapper.optimizer.weight_decay': 0.5}
    assert run(tmp_path, 10, resume='auto', **options)[7] == pytest.approx(0.2 * (1 - 6 / 9))
    assert state(tmp_path, 10, 'optimizer')['param_groups'][0]['weight_decay'] == 0.5


def test_schedules_that_a_checkpoint_still_holds_are_not_stepped_twice(tmp_path):
    whole = run(tmp_path / 'whole', 10)
    run(tmp_path / 'run', 10, stop_in=6)
    path = tmp_path / 'run' / 'iter_6.pth'
    old = [dict(last_step=6, _global_step=7), dict(last_step=6, _global_step=7)]
    torch.save(dict(read_checkpoint(path), param_schedulers=old), path)
    assert run(tmp_path / 'run', 10, resume='auto') == {i: whole[i] for i in range(7, 11)}


@pytest.mark.parametrize('parts', [2, 4])
@pytest.mark.parametrize('stop_in', [None, 3])
def test_a_batch_in_parts_is_the_whole_batch(tmp_path, parts, stop_in):
    """Weights, running average, learning rates and losses, also when stopped and resumed."""
    rates = run(tmp_path / 'whole', 6, average=True)
    losses = dict(RecordHook.losses)
    found = run(tmp_path / 'parts', 6, average=True, accumulate=parts, stop_in=stop_in)
    if stop_in:
        assert max(found) == stop_in
        found |= run(tmp_path / 'parts', 6, average=True, accumulate=parts, resume='auto')
    else:
        assert RecordHook.losses == pytest.approx(losses, rel=1e-5)
    assert found == rates
    for part in ('state_dict', 'ema_state_dict'):
        assert_same(state(tmp_path / 'parts', 6, part), state(tmp_path / 'whole', 6, part), 1e-5)


def test_a_run_is_resumed_with_other_parts(tmp_path):
    rates = run(tmp_path / 'whole', 10)
    run(tmp_path / 'run', 10, stop_in=6)
    assert run(tmp_path / 'run', 10, resume='auto', accumulate=2) == {
        i: rates[i] for i in range(7, 11)
    }
    assert_same(state(tmp_path / 'run', 10), state(tmp_path / 'whole', 10), 1e-5)


def test_parts_that_do_not_divide_the_batch(tmp_path):
    with pytest.raises(UserError, match='--accumulate 3 does not divide .*batch_size=4'):
        run(tmp_path, accumulate=3)


def test_an_interval_of_parts_is_refused(tmp_path):
    with pytest.raises(UserError, match='use .*train_cfg.parts or --accumulate'):
        run(tmp_path, **{'optim_wrapper.accumulative_counts': 2})


# The best, the last, and whose they are


BEST = {
    'val_dataloader': dict(
        batch_size=4,
        num_workers=0,
        dataset=dict(type='FewNumbers'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    ),
    'val_cfg': dict(type='ValLoop'),
    'val_evaluator': dict(type='ScriptedScores'),
    'train_cfg.val_interval': 2,
}


@pytest.mark.parametrize('stop_in', [None, 4, 5, 7])
def test_validation_keeps_the_best_and_the_last_two(tmp_path, monkeypatch, stop_in):
    monkeypatch.setattr(ScriptedScores, 'script', {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.2, 10: 0.1})
    run(tmp_path, stop_in=stop_in, **BEST)
    if stop_in:
        assert names(tmp_path)[-1] == f'iter_{stop_in}.pth'
        run(tmp_path, resume='auto', **BEST)
    assert names(tmp_path) == ['best_mIoU_iter_4.pth', 'iter_10.pth', 'iter_8.pth']
    assert (tmp_path / 'latest.pth').resolve().name == 'iter_10.pth'


def test_a_better_score_after_a_resume_takes_the_place_of_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptedScores, 'script', {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.6, 10: 0.1})
    run(tmp_path, stop_in=5, **BEST)
    run(tmp_path, resume='auto', **BEST)
    assert names(tmp_path) == ['best_mIoU_iter_8.pth', 'iter_10.pth', 'iter_8.pth']


def test_a_run_resumed_in_another_folder_leaves_the_first_one_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptedScores, 'script', {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.6, 10: 0.1})
    run(tmp_path / 'first', stop_in=5, **BEST)
    before = names(tmp_path / 'first')
    run(tmp_path / 'second', resume=tmp_path / 'first' / 'iter_5.pth', **BEST)
    assert names(tmp_path / 'first') == before
    assert names(tmp_path / 'second') == ['best_mIoU_iter_8.pth', 'iter_10.pth', 'iter_8.pth']


def test_a_new_run_does_not_mix_with_another_one(tmp_path, capsys):
    run(tmp_path, 4)
    with pytest.raises(UserError, match=r'of a run with other settings \(seed=1 \(was 0\)\)'):
        run(tmp_path, 4, seed=1)
    with pytest.raises(UserError, match=r'\(optim_wrapper.optimizer.lr=0.2 \(was 0.1\)\)'):
        run(tmp_path, 4, **{'optim_wrapper.optimizer.lr': 0.2})
    with pytest.raises(UserError, match='iter_4.pth was trained with seed 0, not 1'):
        run(tmp_path, 6, seed=1, resume='auto')
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth']
    run(tmp_path, 4)  # the same run again
    run(tmp_path, 6, resume='auto', accumulate=2)
    said = 'from iteration 4 with other settings: train_cfg.max_iters=6 (was 4), train_cfg.parts=2'
    assert said in capsys.readouterr().out


def test_settings_that_are_no_dict_are_none(tmp_path):
    for text in ('[]', '3', '{'):
        (tmp_path / 'settings.json').write_text(text)
        assert read_settings(tmp_path) == {}


@HOOKS.register_module()
class OtherRunHook(Hook):
    """Begins another training in the same folder behind the first iteration."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 0:
            run(runner.work_dir, 2, seed=1)


def test_a_checkout_that_moved_holds_the_same_run(tmp_path):
    def paths(checkout):
        options = settings(2, **{'model.data_root': str(checkout / 'data' / 'VOC')}).to_dict()
        file = checkout / 'few.py'
        checkout.mkdir()
        file.touch()
        return training_settings(Config(options, filename=file))

    here, there = paths(tmp_path / 'here'), paths(tmp_path / 'there')
    assert here == there and here['model.data_root'] == 'data/VOC'


def test_a_checkpoint_of_elsewhere_does_not_mix_with_another_run(tmp_path):
    run(tmp_path / 'first', 2)
    run(tmp_path / 'second', 4, seed=1)
    with pytest.raises(UserError, match=r'second holds checkpoints of a run with other settings'):
        run(tmp_path / 'second', 6, resume=tmp_path / 'first' / 'iter_2.pth')
    run(tmp_path / 'first', 6, resume=tmp_path / 'first' / 'iter_2.pth')  # its own


def test_another_average_is_said(tmp_path, capsys):
    run(tmp_path, 2, average=True)
    hooks = {'custom_hooks.1.momentum': 0.2}
    run(tmp_path, 4, average=True, resume='auto', **hooks)
    assert 'custom_hooks.1.momentum=0.2 (was 0.3)' in capsys.readouterr().out


def test_a_run_that_saves_nothing_says_so_when_it_is_stopped(tmp_path, capsys):
    run(tmp_path, 4, stop_in=2, **{'default_hooks.checkpoint': None})
    assert 'stopped after iteration 2 of 4; nothing is saved' in capsys.readouterr().err


def test_two_trainings_at_once_in_one_folder(tmp_path):
    hooks = [dict(type='OtherRunHook')]
    with pytest.raises(UserError, match=r'another training began .* \(seed=1 \(was 0\)'):
        run(tmp_path, 4, custom_hooks=hooks)
    assert names(tmp_path) == ['iter_2.pth']


def test_weights_alone_and_another_optimizer_are_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptedScores, 'script', {2: 0.3})
    run(tmp_path, 2, **BEST)
    with pytest.raises(UserError, match='best_mIoU_iter_2.pth holds weights, but no state of a '):
        run(tmp_path, 4, resume=tmp_path / 'best_mIoU_iter_2.pth')
    groups = dict(custom_keys={'line.bias': dict(lr_mult=2.0)})
    with pytest.raises(UserError, match='trained with other groups of parameters'):
        run(tmp_path, 4, resume='auto', **{'optim_wrapper.paramwise_cfg': groups})


def test_an_interval_without_a_validation_set_is_said(tmp_path, capsys):
    run(tmp_path / 'said', 2, **{'train_cfg.val_interval': 2})
    assert 'val_interval is ignored: the config has no val_dataloader' in capsys.readouterr().out
    run(tmp_path / 'not', 2)
    assert 'ignored' not in capsys.readouterr().out


def test_deterministic_warns_where_an_operator_is_not(tmp_path):
    before = torch.are_deterministic_algorithms_enabled()
    try:
        train(settings(2), work_dir=tmp_path, device='cpu', deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_workers_leave_signals_of_the_group_to_the_training():
    """`timeout` and Ctrl-C signal a whole group. At exit Python sends each worker one SIGTERM."""
    config = settings(**{'train_dataloader.num_workers': 1})
    loader = SegRunner.build_dataloader(config.train_dataloader, seed=0)
    batches = iter(loader)
    (worker,) = batches._workers
    next(batches)
    assert os.getpgid(worker.pid) == worker.pid != os.getpgrp()
    del batches
    assert not worker.is_alive()
    batches = iter(loader)
    (worker,) = batches._workers
    next(batches)
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises for a lost worker
    worker.terminate()
    worker.join(timeout=10)
    alive = worker.is_alive()
    worker.kill()
    signal.signal(signal.SIGCHLD, before)
    assert not alive


# The miniature


def test_the_miniature_of_no_iterations(tmp_path, capsys):
    assert run_script('miniature', '--iterations', 0, '--work-dir', tmp_path / 'run') == 1
    assert capsys.readouterr().err == 'error: --iterations is 1 or more, not 0\n'


def test_the_miniature_goes_on_with_another_length(tmp_path, monkeypatch):
    """Its schedule ends with it; a checkpoint of a longer run is not taken for a finished one."""
    miniature = load_tool('miniature')

    def train_numbers(config, **options):
        parts = {name: config[name] for name in ('param_scheduler', 'train_cfg')}
        return train(settings(**parts), **options)

    def rates(folder, iterations):
        miniature.train_student(tmp_path / folder, iterations, 'cpu')
        return dict(RecordHook.rates)

    monkeypatch.setattr('mmseg.labelling.command.main', lambda command: None)
    monkeypatch.setattr('mmseg.apis.train.train', train_numbers)
    whole = rates('whole', 6)
    rates('run', 4)
    assert rates('run', 6) == {i: whole[i] for i in (5, 6)} and whole[6] < whole[5]
    with pytest.raises(UserError, match='iter_6.pth is at iteration 6, beyond .*max_iters=5'):
        rates('run', 5)
