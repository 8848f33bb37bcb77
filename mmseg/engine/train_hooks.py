"""Hooks of the training: progress, and stops that lose nothing."""

import json
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook

from mmseg.errors import UserError
from mmseg.evaluation import score_table
from mmseg.registry import HOOKS
from mmseg.utils import Progress, atomic_path
from mmseg.utils.checkpoint import require_finite_state
from mmseg.utils.tensors import peak_memory


@HOOKS.register_module()
class TrainProgressHook(Hook):
    """A live line: iteration, rate, time left, loss, agreement with the labels, data time, memory.

    After each validation it prints the table of `tools/test.py`.

    Args:
        interval: iterations between two readings of the loss, each of which waits for the device.
    """

    priority = 'LOW'  # after the timer and the log

    def __init__(self, interval=10):
        self.interval = interval

    def before_train(self, runner):
        self.bar = Progress(
            runner.max_iters, 'train', unit='iteration', quiet=not is_main_process()
        )
        self.bar.skip(runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx % self.interval == 0:
            self.bar.note = self._note(runner, outputs)
        self.bar.update(1)

    def _note(self, runner, outputs):
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

    def after_val_epoch(self, runner, metrics=None):
        evaluator = runner.val_loop.evaluator
        meta, scores = evaluator.dataset_meta, getattr(evaluator.metrics[0], 'scores', None)
        if is_main_process():
            table = ', '.join(f'{name} {value}' for name, value in metrics.items())
            if scores is not None:
                table = score_table(meta['classes'], scores, meta.get('unseen', ()))
            runner.logger.info(f'validation at iteration {runner.iter}\n{table}')
            print(f'validation at iteration {runner.iter}\n{table}', flush=True)

    def after_train(self, runner):
        self.bar.close()


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop where the loss is NaN or infinite, before such weights are saved; the photos are named.

    Args:
        interval: iterations between two looks, each of which waits for the device.
    """

    priority = 'VERY_HIGH'  # before a checkpoint is written

    def __init__(self, interval=10):
        self.interval = interval
        self.recent = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        photos = [sample.img_path for sample in data_batch['data_samples']]
        self.recent.append((runner.iter + 1, outputs['loss'].detach(), photos))
        if len(self.recent) >= self.interval:
            self._look(runner)

    def before_save_checkpoint(self, runner, checkpoint):
        self._look(runner)
        what = f'after iteration {runner.iter}, the student has'
        cure = 'lower optim_wrapper.optimizer.lr; checkpoints before it are whole'
        require_finite_state(checkpoint['state_dict'], what, cure)

    def after_train(self, runner):
        self._look(runner)

    def _look(self, runner):
        recent, self.recent = self.recent, []
        if not recent:
            return
        losses = torch.stack([loss for _, loss, _ in recent]).tolist()
        for loss, (iteration, _, photos) in zip(losses, recent):
            if loss - loss != 0:  # NaN and infinity
                raise UserError(self._report(Path(runner.work_dir), iteration, loss, photos))

    def _report(self, folder, iteration, loss, photos):
        path = folder / 'nonfinite_loss.json'
        with atomic_path(path) as temporary:
            text = json.dumps(dict(iteration=iteration, loss=str(loss), photos=photos), indent=1)
            temporary.write_text(text)
        return (
            f'the loss of iteration {iteration} is {loss}; its photos are named in {path}; look at '
            'them, or lower optim_wrapper.optimizer.lr; checkpoints before it are whole'
        )


@HOOKS.register_module()
class AverageStudentHook(EMAHook):
    """A running average of the student, which labels for it (`MaskClipPlus.ema_momentum`).

    As mmengine's hook it is also what validation judges and what a checkpoint's weights are; the
    student itself lies beside them, so that a resumed run goes on in the same bits.
    """

    def before_run(self, runner):
        student = getattr(runner.model, 'module', runner.model)
        super().before_run(runner)  # copies the student; frozen modules are shared
        average = self.ema_model.module.eval()
        average.frozen.pop('teacher', None)
        student.frozen['average'] = average


@HOOKS.register_module()
class LabelLeakHook(Hook):
    """No pixel of training may carry a class that is held unseen (`unseen` of the config).

    Targets are looked at before they go to the device: one table look-up a batch, no waiting.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        meta = runner.train_dataloader.dataset.metainfo
        for sample in data_batch['data_samples']:
            unseen = meta.get('unseen', ())
            leaked = unseen and leaked_classes(sample.gt_sem_seg, unseen)
            if leaked:
                names = ', '.join(meta['classes'][i] for i in leaked)
                raise UserError(
                    f'the training target of {sample.img_path} shows {names}, which the config '
                    "holds unseen; does its LoadAnnotations have suppress_labels='unseen'?"
                )


def leaked_classes(target, unseen):
    """(H, W) labels, ids -> those of the ids that occur in it"""
    counts = torch.bincount(target.flatten().long() + 1)  # unlabelled is -1
    return [i for i in unseen if i + 1 < len(counts) and counts[i + 1]]
