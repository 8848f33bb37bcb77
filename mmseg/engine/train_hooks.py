"""Hooks of the training: log, progress, checks of losses and labels, the averaged student."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import EMAHook, Hook, LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import Tensor

from mmseg.errors import UserError
from mmseg.evaluation import score_table
from mmseg.models.frozen import FrozenOwner
from mmseg.registry import HOOKS
from mmseg.utils import Count, Progress, validated, write_json
from mmseg.utils.checkpoint import require_finite_state
from mmseg.utils.tensors import peak_memory

Batch = Mapping[str, Any]
Outputs = Mapping[str, Any]  # losses and figures of a step, 'loss' among them


@HOOKS.register_module()
class DeferredLoggingHook(RuntimeInfoHook):
    """Read losses only when they are logged, all at once; otherwise mmengine's RuntimeInfoHook.

    Reading a value waits for the accelerator to finish the step, and meanwhile it gets no new work.
    The logged value is the mean over the processes, which is that of the whole batch.
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.waiting: list[Outputs] = []
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self.interval = min(loggers, default=10)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the values; read them before LoggerHook, which comes later, needs them."""
        if outputs:
            kept = {k: v.detach() if torch.is_tensor(v) else v for k, v in outputs.items()}
            self.waiting.append(kept)
        steps = (runner.iter + 1, batch_idx + 1)
        logged = any(step % self.interval == 0 for step in steps)
        if logged or steps[1] == len(runner.train_dataloader) or steps[0] == runner.max_iters:
            self._read(runner.message_hub)

    def after_train(self, runner: Runner) -> None:
        self._read(runner.message_hub)  # the rest of a run that was stopped
        super().after_train(runner)

    def _read(self, hub: MessageHub) -> None:
        waiting, self.waiting = self.waiting, []
        names = [name for outputs in waiting for name in outputs]
        values = [value for outputs in waiting for value in outputs.values()]
        tensors = [value.float().reshape(()) for value in values if torch.is_tensor(value)]
        if not tensors:
            return
        together = torch.stack(tensors)
        all_reduce(together, 'mean')
        read = iter(together.tolist())
        for name, value in zip(names, values):
            hub.update_scalar(f'train/{name}', next(read) if torch.is_tensor(value) else value)


@HOOKS.register_module()
class TrainProgressHook(Hook):
    """Show iteration, rate, time left, loss, agreement with the labels, data time and memory.

    After each validation, print the table of `tools/test.py`.

    Args:
        interval: iterations between two readings of the loss; each waits for the device.
    """

    priority = 'LOW'  # after the timer and the log

    @validated
    def __init__(self, interval: Count = 10) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        self.bar = Progress(
            runner.max_iters, 'train', unit='iteration', quiet=not is_main_process()
        )
        self.bar.skip(runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if batch_idx % self.interval == 0:
            self.bar.note = self._note(runner, outputs)
        self.bar.update(1)

    def _note(self, runner: Runner, outputs: Outputs) -> str:
        parts = [f'loss {float(outputs["loss"].detach()):.4f}']
        for key, words in (('acc_seg', 'agreement with the labels'), ('retrieval', 'retrieval')):
            if key in outputs:
                parts.append(f'{words} {float(outputs[key]):.0f}%')
        scalars = runner.message_hub.log_scalars
        if 'train/time' in scalars and 'train/data_time' in scalars:
            whole, data = (scalars[f'train/{k}'].mean(self.interval) for k in ('time', 'data_time'))
            parts.append(f'waiting for data {100 * data / whole:.0f}%')
        parts.append(f'memory {peak_memory(runner.cfg.get("device", "cpu")) / 1e9:.1f} GB')
        return ', '.join(parts)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        evaluator = runner.val_loop.evaluator
        meta, scores = evaluator.dataset_meta, getattr(evaluator.metrics[0], 'scores', None)
        if is_main_process():
            table = ', '.join(f'{name} {value}' for name, value in (metrics or {}).items())
            if scores is not None:
                table = score_table(meta['classes'], scores, meta.get('unseen', ()))
            runner.logger.info(f'validation at iteration {runner.iter}\n{table}')
            print(f'validation at iteration {runner.iter}\n{table}', flush=True)

    def after_train(self, runner: Runner) -> None:
        self.bar.close()


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop when the loss is NaN or infinite, before such weights are saved, and name the photos.

    Args:
        interval: iterations between two checks; each waits for the device.
    """

    priority = 'VERY_HIGH'  # before a checkpoint is written

    @validated
    def __init__(self, interval: Count = 10) -> None:
        self.interval = interval
        self.recent: list[tuple[int, Tensor, list[str]]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        photos = [sample.img_path for sample in data_batch['data_samples']]
        self.recent.append((runner.iter + 1, outputs['loss'].detach(), photos))
        if len(self.recent) >= self.interval:
            self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._check(runner)
        subject = f'after iteration {runner.iter}, the student has'
        cure = 'lower optim_wrapper.optimizer.lr; checkpoints before it are whole'
        require_finite_state(checkpoint['state_dict'], subject, cure)

    def after_train(self, runner: Runner) -> None:
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        recent, self.recent = self.recent, []
        if not recent:
            return
        losses = torch.stack([loss for _, loss, _ in recent]).tolist()
        for loss, (iteration, _, photos) in zip(losses, recent):
            if not math.isfinite(loss):
                path = Path(runner.work_dir, 'nonfinite_loss.json')
                write_json(path, dict(iteration=iteration, loss=str(loss), photos=photos))
                raise UserError(
                    f'the loss of iteration {iteration} is {loss}; its photos are named in {path}; '
                    'check them, or lower optim_wrapper.optimizer.lr; checkpoints before it are '
                    'whole'
                )


@HOOKS.register_module()
class AverageStudentHook(EMAHook):
    """Keep a running average of the student, which labels for it (`MaskClipPlus.ema_momentum`).

    As with mmengine's hook, validation and the weights of a checkpoint use the average. A
    checkpoint also holds the student itself, so a resumed run continues with identical bits.
    """

    def before_run(self, runner: Runner) -> None:
        student = getattr(runner.model, 'module', runner.model)
        frozen = {n: m.frozen for n, m in student.named_modules() if isinstance(m, FrozenOwner)}
        for name in frozen:
            student.get_submodule(name).frozen = {}
        super().before_run(runner)  # copies the student, but not its frozen modules
        average = self.ema_model.module.eval()
        for name, modules in frozen.items():
            student.get_submodule(name).frozen = modules
            average.get_submodule(name).frozen = dict(modules)
        average.frozen.pop('teacher', None)
        student.frozen['average'] = average


@HOOKS.register_module()
class LabelLeakHook(Hook):
    """Stop when a training target shows a class that the config holds `unseen`.

    Targets are checked before they go to the device, so nothing waits.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        meta = runner.train_dataloader.dataset.metainfo
        for sample in data_batch['data_samples']:
            unseen = meta.get('unseen', ())
            if leaked := unseen and leaked_classes(sample.gt_sem_seg, unseen):
                names = ', '.join(meta['classes'][i] for i in leaked)
                raise UserError(
                    f'the training target of {sample.img_path} shows {names}, which the config '
                    "holds unseen; does its LoadAnnotations have suppress_labels='unseen'?"
                )


def leaked_classes(target: Tensor, unseen: Iterable[int]) -> list[int]:
    """List the ids that occur in (H, W) labels."""
    counts = torch.bincount(target.flatten().long() + 1)  # unlabelled is -1
    return [i for i in unseen if i + 1 < len(counts) and counts[i + 1]]
