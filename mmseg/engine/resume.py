"""Record the settings of a run in its checkpoints, and choose what a resumed run loads."""

import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmseg.errors import UserError
from mmseg.utils import write_json
from mmseg.utils.describe import shown

SETTINGS = 'settings.json'  # beside the checkpoints
TRAINING = (
    *('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'),
    'custom_hooks',  # a running average among them
)
NOT_COMPARED = ('seed', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
REMEMBERED = ('best_score', 'best_ckpt', 'keep_ckpt_ids')  # by CheckpointHook; some + a metric


def training_settings(config: Config, load_from: str | None = None) -> dict[str, str]:
    """List the settings that decide the trained weights: {'train_cfg.max_iters': '8000', ...}.

    Absolute paths become relative to the config's folder, so that a checkout may move.
    """
    settings = dict(seed=str(config.randomness.seed), processes=str(get_world_size()))
    settings['load_from'] = str(load_from)
    folder = os.path.dirname(os.path.abspath(config.filename))
    for part in TRAINING:
        for name, value in _flat(config.get(part), part).items():
            if os.path.isabs(value) and os.path.commonpath([value, folder]) != os.sep:
                value = os.path.relpath(value, folder)
            settings[name] = value
    return settings


def _flat(value: Any, name: str) -> dict[str, str]:
    """Flatten nested dicts and lists of dicts: {'model.backbone.size': 'b0', ...}"""
    if isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
        value = dict(enumerate(value))
    elif not isinstance(value, dict):
        return {name: str(value)}
    flat: dict[str, str] = {}
    for key, inner in value.items():
        if key not in NOT_COMPARED:
            flat |= _flat(inner, f'{name}.{key}')
    return flat


def changes(before: dict[str, str], now: dict[str, str]) -> str:
    """Describe differences: 'train_cfg.max_iters=20 (was 10), ...', the first five; '' for none."""
    names = [name for name in before | now if before.get(name) != now.get(name)]
    texts = [f'{n}={str(now.get(n))[:60]} (was {str(before.get(n))[:60]})' for n in names[:5]]
    return ', '.join(texts + ['...'] * (len(names) > 5))


def read_settings(folder: Path) -> dict[str, str]:
    """Read the settings of the last training that began in a folder; {} if none did."""
    try:
        settings = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


class CheckpointContentHook(Hook):
    """Choose what a checkpoint holds, and what of it a resumed run loads.

    A checkpoint holds tensors and plain values. It has no log histories, and no schedules, since
    these follow from the config and the iteration. A resumed run has the settings of its config.

    Args:
        settings: the run's `training_settings`.
        meta: texts for the checkpoint's `meta`.
    """

    def __init__(self, settings: dict[str, str], meta: dict[str, str] | None = None) -> None:
        self.settings, self.meta = settings, meta or {}

    def before_train(self, runner: Runner) -> None:
        if is_main_process():
            write_json(Path(runner.work_dir) / SETTINGS, self.settings)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        stored = read_settings(Path(runner.work_dir))
        if stored and stored != self.settings:
            changed = changes(self.settings, stored)
            raise UserError(
                f'another training began in {runner.work_dir}, with other settings ({changed}); '
                'use another --work-dir'
            )
        checkpoint['meta'] |= dict(self.meta, settings=self.settings)
        checkpoint.pop('param_schedulers', None)
        info = {
            name: value.item() if hasattr(value, 'item') else value
            for name, value in checkpoint['message_hub']['runtime_info'].items()
            if name.startswith(REMEMBERED)
        }
        checkpoint['message_hub'] = _hub_of(info)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        path = runner._load_from
        before, done = checkpoint['meta'].get('settings', {}), checkpoint['meta']['iter']
        if before.get('seed', self.settings['seed']) != self.settings['seed']:
            raise UserError(
                f'{path} was trained with seed {shown(before["seed"])}, not {self.settings["seed"]}'
            )
        if done > runner.max_iters:
            raise UserError(
                f'{path} is at iteration {done}, beyond train_cfg.max_iters={runner.max_iters}'
            )
        changed = changes(before, self.settings | dict(load_from=before.get('load_from')))
        if done == runner.max_iters and is_main_process():
            print(
                f'{path} is at iteration {done} of {done}: this run is finished, nothing is '
                'left to train; a larger train_cfg.max_iters continues it'
            )
        elif before and changed and is_main_process():
            print(f'continues from iteration {done} with other settings: {changed}')
        _take_settings(checkpoint['optimizer'], runner.optim_wrapper)
        info = checkpoint['message_hub']['runtime_info']
        checkpoint['message_hub'] = _hub_of(_best_of(info, Path(runner.work_dir)))


def _take_settings(saved: dict, wrapper: OptimWrapper) -> None:
    """Copy learning rates, decays and so on of a new optimizer into a saved state"""
    for old, new in zip(saved['param_groups'], wrapper.optimizer.param_groups):
        old.update({name: value for name, value in new.items() if name != 'params'})
    saved['base_param_settings'] = wrapper.base_param_settings


def _best_of(info: dict, folder: Path) -> dict:
    """Keep what is remembered; drop a best checkpoint that is not in this folder"""
    info = {name: value for name, value in info.items() if str(name).startswith(REMEMBERED)}
    for name in [name for name in info if name.startswith('best_ckpt')]:
        path = folder / Path(str(info[name])).name
        if path.is_file():
            info[name] = str(path)
        else:
            del info[name]
            info.pop(name.replace('best_ckpt', 'best_score'), None)
    return info


def _hub_of(info: dict) -> dict:
    """Build the state of mmengine's MessageHub that holds some values"""
    return dict(log_scalars={}, runtime_info=info, resumed_keys=dict.fromkeys(info, True))
