"""Train a config's student, from the start or from where a run stopped."""

import copy
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mmseg.engine import (
    CheckpointContentHook,
    SegRunner,
    accumulate_gradients,
    changes,
    device_of,
    init_processes,
    read_settings,
    training_settings,
)
from mmseg.errors import UserError
from mmseg.models import MaskClipPlus, count_parameters
from mmseg.models.student_file import KEY, describe_student
from mmseg.utils import atomic_path, output_dir
from mmseg.utils.checkpoint import newest_checkpoint

from .command import settings_of
from .precheck import metrics_of, require_best, try_pipeline, types_of
from .record import bare, write_record
from .test import default_work_dir, require_data


def train(
    config: Config,
    *,
    work_dir: str | Path | None = None,
    resume: str | Path | None = None,
    load_from: str | Path | None = None,
    amp: bool = False,
    accumulate: int | None = None,
    seed: int | None = None,
    deterministic: bool = False,
    validate: bool = True,
    device: str | None = None,
    launcher: str = 'none',
) -> SegRunner:
    """Train the model of a config.

    Args:
        config: a Config of `mmseg.engine.load_config`.
        work_dir: folder of log and checkpoints; default work_dirs/<config's name>.
        resume: a checkpoint to continue from, 'auto' for the newest whole one, None for a new run.
        load_from: weights to start a new run from.
        amp: autocast (float16 with loss scaling on accelerators, bfloat16 on the CPU).
        accumulate: number of parts that a batch is read in, one after the other; the recipe stays
            the same. None keeps the config's `train_cfg.parts`, by default 1.
        seed: of all random numbers; None keeps the config's.
        deterministic: ask PyTorch for repeatable operators.
        validate: run the validation of the config.
        device, launcher: see `mmseg.apis.test.test`.

    Returns:
        The runner, after the last iteration or after a signal.

    Raises:
        UserError: a setting or file that cannot be used.
    """
    config.work_dir = str(work_dir or config.get('work_dir') or default_work_dir(config))
    output_dir(config.work_dir)
    description = {}
    if config.model.type == 'MaskClipPlus':  # with it, the checkpoint needs no config
        description[KEY] = json.dumps(describe_student(config))
    config.device = init_processes(launcher, device_of(device))
    config.launcher = launcher
    _set_randomness(config, seed, deterministic)
    _set_validation(config, validate)
    _keep_average(config)
    _set_step(config, accumulate, amp)
    settings = training_settings(config, None if load_from is None else str(load_from))
    _set_start(config, resume, load_from, settings)
    _check_data(config)
    runner = _build_runner(config)
    runner.register_hook(CheckpointContentHook(settings, description))
    record = {}
    if is_main_process():
        _write_config(config)
        print(_parameters_line(bare(runner.model)))
        record = write_record(runner, config)
    with _stopping_on_signals(runner):
        runner.train()
    _save_if_stopped(runner, config)
    if is_main_process():
        write_record(runner, config, record)
    return runner


def _check_data(config: Config) -> None:
    """Build data sets and metrics, and read one sample of each, before any weights are read."""
    for name in ('train_dataloader', 'val_dataloader'):
        if config.get(name):
            config[name].setdefault('pin_memory', config.device != 'cpu')
            with settings_of(config):
                dataset = require_data(config[name])
            readers = [config.model] if name == 'train_dataloader' else config.get('val_evaluator')
            try_pipeline(dataset, name, types_of(readers))
            if name == 'val_dataloader':
                with settings_of(config):
                    require_best(metrics_of(config.get('val_evaluator'), dataset), config)


def _build_runner(config: Config) -> SegRunner:
    """Build the runner, and as mmengine would later, its optimizer and schedules."""
    if config.launcher != 'none':
        config.sync_bn = config.device != 'cpu'  # gloo has none
    untested = copy.copy(config)
    untested.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    with settings_of(config):
        runner = SegRunner.from_cfg(untested)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner.param_schedulers:
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner


def _write_config(config: Config) -> None:
    """Write the config into the work folder, for tools/test.py, unless it is that very file."""
    path = Path(config.work_dir, Path(config.filename or 'config.py').name)
    if not config.filename or path.resolve() != Path(config.filename).resolve():
        with atomic_path(path) as temporary:
            config.dump(temporary)


def _set_randomness(config: Config, seed: int | None, deterministic: bool) -> None:
    randomness = config.setdefault('randomness', dict(seed=0))
    if seed is not None:
        randomness.seed = seed
    randomness.deterministic = deterministic
    config.train_dataloader.dataset.seed = randomness.seed
    config.train_dataloader.sampler.seed = randomness.seed


def _set_start(
    config: Config,
    resume: str | Path | None,
    load_from: str | Path | None,
    settings: dict[str, Any],
) -> None:
    """Set the checkpoint to start from; refuse a folder that holds another run."""
    folder = Path(config.work_dir)
    if resume == 'auto':
        resume = newest_checkpoint(folder)
        if resume is None:
            raise UserError(f'{folder} holds no checkpoint to resume from')
    elif resume is None or Path(resume).resolve().parent != folder.resolve():
        changed = changes(read_settings(folder), settings)
        if changed and any(folder.glob('iter_*.pth')):
            raise UserError(
                f'{folder} holds checkpoints of a run with other settings ({changed}); continue '
                'it by --resume, or choose another --work-dir'
            )
    start = resume or load_from
    if start is not None and not Path(start).is_file():
        raise UserError(f'no checkpoint {start}')
    config.load_from, config.resume = (str(resume) if resume else None), resume is not None
    if start is not None and 'backbone' in config.model:  # which replaces the ImageNet weights
        config.model.backbone.pretrained = False
    if resume is None and load_from is not None:
        config.model.checkpoint = str(load_from)


def _set_validation(config: Config, validate: bool) -> None:
    if not validate:
        config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    elif not config.get('val_dataloader') and 'val_interval' in config.train_cfg:
        if is_main_process():
            print('train_cfg.val_interval is ignored: the config has no val_dataloader')


def _keep_average(config: Config) -> None:
    """Add the hook of the running average if the model labels by it."""
    momentum, hooks = config.model.get('ema_momentum'), config.get('custom_hooks', [])
    if momentum and not any(hook['type'] == 'AverageStudentHook' for hook in hooks):
        if any(hook['type'] == 'EMAHook' for hook in hooks):
            raise UserError('model.ema_momentum keeps an average itself; leave out EMAHook')
        config.custom_hooks = [*hooks, dict(type='AverageStudentHook', momentum=momentum)]


def _set_step(config: Config, accumulate: int | None, amp: bool) -> None:
    parts = config.train_cfg.get('parts', 1) if accumulate is None else accumulate
    accumulate_gradients(config, parts)
    if amp and config.device == 'cpu':
        config.optim_wrapper.update(type='CpuAmpOptimWrapper')
    elif amp:
        config.optim_wrapper.update(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')


def _parameters_line(model: Any) -> str:
    """Describe how many parameters a model has, and how many are trained."""
    if not isinstance(model, MaskClipPlus):
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return f'parameters: {trained / 1e6:.2f}M to train'
    counts = count_parameters(model)
    parts = [f'{counts.trained / 1e6:.2f}M to train', f'{counts.teacher / 1e6:.2f}M in the teacher']
    if counts.prior_encoder:
        parts.append(f'{counts.prior_encoder / 1e6:.2f}M in the prior encoder')
    return (
        f'parameters: {", ".join(parts)}; student and teacher as the original counts them: '
        f'{counts.original / 1e6:.2f}M'
    )


@contextmanager
def _stopping_on_signals(runner: SegRunner) -> Iterator[None]:
    """End the loop after the current iteration at SIGTERM and Ctrl-C, not in its middle."""

    def stop(number: int, frame: FrameType | None) -> None:
        runner.train_loop.stop_training = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _save_if_stopped(runner: SegRunner, config: Config) -> None:
    """Save a run that was stopped, by the hook that counts the checkpoints to keep."""
    done, last = runner.iter, runner.max_iters
    if done >= last:
        return
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    outcome = 'nothing is saved, since the config has no CheckpointHook'
    if hooks:
        hooks[0]._save_checkpoint_with_step(runner, done, dict(iter=done, epoch=0))
        outcome = f'the same command with --resume continues from {config.work_dir}'
    if is_main_process():
        print(f'stopped after iteration {done} of {last}; {outcome}', file=sys.stderr)
