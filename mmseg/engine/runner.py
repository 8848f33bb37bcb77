"""mmengine's Runner on any device, with a quiet console and safe checkpoints."""

import logging
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import CheckpointLoader, Runner
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.utils.data import DataLoader

from mmseg.errors import UserError
from mmseg.models.student_file import require_same_run
from mmseg.registry import MODELS
from mmseg.utils import atomic_path, point_to, reason_of
from mmseg.utils.checkpoint import read_checkpoint

from .hooks import FiniteScoresHook
from .launch import allow_tf32
from .optimizer import merge_groups

FUSED = ('SGD', 'Adam', 'AdamW')  # the optimizers with one kernel for a whole group

# mmengine's reader cannot read its checkpoints under torch >= 2.6.
CheckpointLoader.register_scheme(prefixes='', loader=read_checkpoint, force=True)


def _is_for_users(record: logging.LogRecord) -> bool:
    """Drop mmengine's warnings about its deprecated parts"""
    return not any(name in record.getMessage() for name in ('HardDiskBackend', 'FileClient'))


def _start_worker(initialise: Callable[..., None] | None, worker: int) -> None:
    """Put a worker of a data loader into a process group of its own.

    `timeout` and Ctrl-C signal the whole group of the training; a worker that died first would end
    the training before it can save. The parent still ends its workers, which watch it themselves.
    """
    os.setpgid(0, 0)
    if initialise is not None:
        initialise(worker)


class SegRunner(Runner):
    """Run mmengine's Runner on the device of the config; keep the console for results.

    Settings, environment and hooks go to the log file only; warnings go to both.
    """

    def build_logger(
        self, log_level: str | int = 'INFO', log_file: str | None = None, **options: Any
    ) -> logging.Logger:
        logger = super().build_logger(log_level, log_file, **options)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.WARNING)
                handler.addFilter(_is_for_users)
        return logger

    def dump_config(self) -> None:
        """Write no config: `mmseg.apis.train` does; a test would replace it by another one."""

    def build_model(self, model: nn.Module | dict[str, Any]) -> nn.Module:
        """Build the model by `mmseg.models.build`."""
        return model if isinstance(model, nn.Module) else MODELS.build(model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a loader as mmengine does, whose workers leave signals to this process."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if loader is not dataloader:
            loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
        return loader

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Move to the device; wrap in DistributedDataParallel where there is something to train."""
        device = self.cfg.get('device') or 'cpu'
        allow_tf32(bool(self.cfg.get('tf32')))
        model = model.to(device)
        if device != 'cpu':  # where convolutions read channels last
            model = model.to(memory_format=torch.channels_last)
        if not self.distributed or not any(p.requires_grad for p in model.parameters()):
            return model
        if self.cfg.get('sync_bn') and get_world_size() > 1:
            model = convert_sync_batchnorm(model)  # timm's, which keeps fused activations
        ids = None if device == 'cpu' else [int(device.rsplit(':', 1)[1])]
        return MMDistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict[str, Any]) -> OptimWrapper:
        """Build an optimizer with few groups: an accelerator steps each of them in one kernel."""
        optimizer = optim_wrapper.get('optimizer') if isinstance(optim_wrapper, dict) else None
        if isinstance(optimizer, dict) and optimizer.get('type') in FUSED:
            if (self.cfg.get('device') or 'cpu') != 'cpu' and 'foreach' not in optimizer:
                optimizer.setdefault('fused', True)
        wrapper = super().build_optim_wrapper(optim_wrapper)
        if isinstance(wrapper, OptimWrapper):
            merge_groups(wrapper.optimizer)
        return wrapper

    def _maybe_compile(self, target: str) -> None:
        """Compile the two parts of a student, if the config says `compile`: True or options.

        The steps around them change with the iteration: compiled as a whole, the student would be
        compiled again and again.
        """
        options = self.cfg.get('compile')
        if not options:
            return
        options = {} if options is True else dict(options)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        model.backbone.compile(**options)
        head = model.decode_head
        head.forward_features = torch.compile(head.forward_features, **options)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        super().register_default_hooks(
            {'runtime_info': dict(type='DeferredLoggingHook'), **(hooks or {})}
        )

    def resume(self, filename: str, **options: Any) -> None:
        """Resume, with schedules that follow from the config and the iteration alone.

        A resumed run has the learning rates of an uninterrupted one; with another length or rate in
        the config, those of that config.
        """
        try:
            super().resume(filename, **{**options, 'resume_param_scheduler': False})
        except ValueError as error:  # of torch's optimizers
            if 'parameter group' not in str(error):
                raise
            raise UserError(
                f'the checkpoint {filename} was trained with other groups of parameters than '
                'those of optim_wrapper; resume it with its own settings, or by the version that '
                'wrote it'
            ) from error
        schedules = [s for s in self.param_schedulers or [] if not s.by_epoch]
        with warnings.catch_warnings():  # of schedules that step before the optimizer
            warnings.simplefilter('ignore', UserWarning)
            for _ in range(self.iter):
                for schedule in schedules:
                    schedule.step()

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed all generators; operators without a deterministic form warn instead of raising."""
        super().set_randomness(seed, diff_rank_seed, deterministic)
        if deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(FiniteScoresHook())

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = True, **options: Any
    ) -> dict[str, Any]:
        """Load a checkpoint that has every weight of the model, and no other."""
        try:
            checkpoint = super().load_checkpoint(filename, map_location, strict, **options)
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:200]
            raise UserError(
                f'the checkpoint {filename} is of another model than the config: {reason}'
            ) from error
        require_same_run(filename, checkpoint, self)
        return checkpoint

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **options: Any) -> None:
        """Write a checkpoint under another name and rename it, so no reader meets half a file."""
        target = Path(out_dir) / filename
        try:
            with atomic_path(target) as temporary:
                super().save_checkpoint(out_dir, temporary.name, *args, **options)
            if target.stem.startswith('iter_'):
                point_to(target, target.with_name('latest.pth'))
        except RuntimeError as error:  # of torch, where a quota or a limit ends the file
            raise UserError(f'cannot write {target}: {reason_of(error)}') from error
