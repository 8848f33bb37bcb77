"""Train a config's student, from the start or from where a run stopped."""

import argparse
import signal
import sys
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mmseg.engine import (
    CheckpointContentHook,
    SegRunner,
    accumulate_gradients,
    changes,
    device_of,
    end_processes,
    init_processes,
    load_config,
    read_settings,
    training_settings,
)
from mmseg.errors import UserError
from mmseg.models import MaskClipPlus, count_parameters
from mmseg.utils import output_dir
from mmseg.utils.checkpoint import newest_checkpoint

from .command import add_config_arguments, settings_of
from .precheck import build_optimizer, metrics_of, require_best, try_pipeline, types_of
from .record import bare, write_record
from .test import require_data


def train(
    config,
    *,
    work_dir=None,
    resume=None,
    load_from=None,
    amp=False,
    accumulate=None,
    seed=None,
    deterministic=False,
    validate=True,
    device=None,
    launcher='none',
):
    """Train the model of a config.

    Args:
        config: a Config of `mmseg.engine.load_config`.
        work_dir: folder of log and checkpoints; default work_dirs/<config's name>.
        resume: a checkpoint to go on from, 'auto' for the newest whole one, None for a new run.
        load_from: weights to start a new run from.
        amp: autocast (float16 with loss scaling on accelerators, bfloat16 on the CPU).
        accumulate: parts that a batch is read in, one after the other; the recipe stays the same.
            None keeps the config's `train_cfg.parts`, by default 1.
        seed: of everything random; None keeps the config's.
        deterministic: ask PyTorch for repeatable operators.
        validate: run the validation of the config.
        device, launcher: see `mmseg.apis.test.test`.

    Returns:
        The runner, after the last iteration or after a signal.
    """
    _set_folders(config, work_dir)
    config.device = init_processes(launcher, device_of(device))
    config.launcher = launcher
    _set_randomness(config, seed, deterministic)
    _set_validation(config, validate)
    _keep_average(config)
    _set_step(config, accumulate, amp)
    settings = training_settings(config, load_from)
    _set_start(config, resume, load_from, settings)
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
    config.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    if launcher != 'none':
        config.sync_bn = config.device != 'cpu'  # gloo has none
    with settings_of(config):
        runner = SegRunner.from_cfg(config)
        build_optimizer(runner)
    runner.register_hook(CheckpointContentHook(settings))
    _say_what_trains(runner)
    record = write_record(runner, config) if is_main_process() else {}
    with _stopping_on_signals(runner):
        runner.train()
    _save_if_stopped(runner, config)
    if is_main_process():
        write_record(runner, config, record)
    return runner


def _set_folders(config, work_dir):
    name = Path(config.filename).stem
    config.work_dir = str(output_dir(work_dir or config.get('work_dir') or f'work_dirs/{name}'))


def _set_randomness(config, seed, deterministic):
    randomness = config.setdefault('randomness', dict(seed=0))
    if seed is not None:
        randomness.seed = seed
    randomness.deterministic = deterministic
    config.train_dataloader.dataset.seed = randomness.seed
    config.train_dataloader.sampler.seed = randomness.seed


def _set_start(config, resume, load_from, settings):
    folder = Path(config.work_dir)
    if resume == 'auto':
        resume = newest_checkpoint(folder)
        if resume is None:
            raise UserError(f'{folder} holds no checkpoint to resume from')
    elif resume is None or Path(resume).resolve().parent != folder.resolve():
        changed = changes(read_settings(folder), settings)
        if changed and any(folder.glob('iter_*.pth')):
            raise UserError(
                f'{folder} holds checkpoints of a run with other settings ({changed}); go on with '
                'it by --resume, or choose another --work-dir'
            )
    start = resume or load_from
    if start is not None and not Path(start).is_file():
        raise UserError(f'no checkpoint {start}')
    config.load_from, config.resume = (str(resume) if resume else None), resume is not None
    if start is not None and 'backbone' in config.model:  # which holds all that ImageNet's would
        config.model.backbone.pretrained = False
    if resume is None and load_from is not None:
        config.model.checkpoint = str(load_from)


def _set_validation(config, validate):
    if not validate:
        config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    elif not config.get('val_dataloader') and 'val_interval' in config.train_cfg:
        if is_main_process():
            print('train_cfg.val_interval is ignored: the config has no val_dataloader')


def _keep_average(config):
    """The hook of the running average, where the model says that it labels."""
    momentum, hooks = config.model.get('ema_momentum'), config.get('custom_hooks', [])
    if momentum and not any(hook['type'] == 'AverageStudentHook' for hook in hooks):
        if any(hook['type'] == 'EMAHook' for hook in hooks):
            raise UserError('model.ema_momentum keeps an average itself; leave out EMAHook')
        config.custom_hooks = [*hooks, dict(type='AverageStudentHook', momentum=momentum)]


def _set_step(config, accumulate, amp):
    parts = config.train_cfg.get('parts', 1) if accumulate is None else accumulate
    accumulate_gradients(config, parts)
    if amp and config.device == 'cpu':
        config.optim_wrapper.update(type='CpuAmpOptimWrapper')
    elif amp:
        config.optim_wrapper.update(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')


def _say_what_trains(runner):
    model = bare(runner.model)
    if not isinstance(model, MaskClipPlus):
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if is_main_process():
            print(f'parameters: {trained / 1e6:.2f}M to train')
        return
    counts = count_parameters(model)
    parts = [f'{counts.trained / 1e6:.2f}M to train', f'{counts.teacher / 1e6:.2f}M in the teacher']
    if counts.prior_encoder:
        parts.append(f'{counts.prior_encoder / 1e6:.2f}M in the prior_encoder')
    if is_main_process():
        print(
            f'parameters: {", ".join(parts)}; student and teacher as the original counts them: '
            f'{counts.original / 1e6:.2f}M'
        )


class _stopping_on_signals:
    """End the loop after the current iteration at SIGTERM and Ctrl-C, not in its middle."""

    def __init__(self, runner):
        self.runner, self.before = runner, {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._stop)

    def _stop(self, number, frame):
        self.runner.train_loop.stop_training = True

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _save_if_stopped(runner, config):
    """Save a run that was stopped, by the hook that counts which checkpoints to keep."""
    done, last = runner.iter, runner.max_iters
    if done >= last:
        return
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    what_next = 'nothing is saved, since the config has no CheckpointHook'
    if hooks:
        hooks[0]._save_checkpoint_with_step(runner, done, dict(iter=done, epoch=0))
        what_next = f'the same command with --resume goes on from {config.work_dir}'
    if is_main_process():
        print(f'stopped after iteration {done} of {last}; {what_next}', file=sys.stderr)


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description='Train a student on labels that nobody drew.')
    add_config_arguments(parser)
    parser.add_argument('--work-dir', help='where log and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the newest checkpoint, or from this one',
    )
    parser.add_argument(
        '--load-from', metavar='CHECKPOINT', help='start a new run from its weights'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--accumulate', type=int, metavar='N', help='read each batch in N parts')
    parser.add_argument('--seed', type=int)
    parser.add_argument('--deterministic', action='store_true')
    parser.add_argument('--no-validate', action='store_true')
    parser.add_argument('--skip-bad', action='store_true', help='leave out photos that are damaged')
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None):
    """The command line `tools/train.py`."""
    args = parse_arguments(argv)
    config = load_config(args.config, args.cfg_options)
    if 'train_dataloader' not in config:
        raise UserError(
            f'{args.config} has nothing to train (no train_dataloader); the configs of '
            'students are below configs/maskclip_plus/'
        )
    config.train_dataloader.dataset.skip_bad = args.skip_bad
    train(
        config,
        work_dir=args.work_dir,
        resume=args.resume,
        load_from=args.load_from,
        amp=args.amp,
        accumulate=args.accumulate,
        seed=args.seed,
        deterministic=args.deterministic,
        validate=not args.no_validate,
        device=args.device,
        launcher=args.launcher,
    )
    end_processes()
