"""Train by iterations, each on one whole batch, which may be read in parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import get_dist_info, get_world_size
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmseg.errors import UserError
from mmseg.models.robust_loss import BALANCE_MEMORY
from mmseg.registry import LOOPS
from mmseg.utils import Count, validated


@LOOPS.register_module()
class StreamTrainLoop(IterBasedTrainLoop):
    """Train by iterations over a `StreamSampler`.

    Steps are numbered from 1. Its random numbers follow from the run's seed and that
    number, so a resumed run needs no generator states and continues at once.

    Args:
        parts: pieces that a batch is read in, one after the other. An iteration is a whole batch:
            all parts add to the gradient, the optimizer steps once, the hooks run once.
        options: see `IterBasedTrainLoop`.
    """

    @validated
    def __init__(self, *args: Any, parts: Count = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parts = parts
        self.hosts: Any = dist.new_group(backend='gloo') if get_world_size() > 1 else None

    def run(self) -> nn.Module:
        """Train from the current iteration to the last, or until a process sets `stop_training`."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._count_parts()
        loader = self.dataloader
        loader.sampler.start = self._iter * loader.batch_size * loader.sampler.processes
        batches = iter(loader)
        while self._iter < self._max_iters and not self._agree_to_stop():
            self.runner.model.train()
            self._seed_step()
            with _batch_norm_of_one():
                self.run_iter(next(batches))
            if self._is_time_to_validate():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch: dict[str, list]) -> None:
        """Train on the parts of a batch; the hooks get the mean of what the parts return."""
        step = dict(batch_idx=self._iter, data_batch=data_batch)
        self.runner.call_hook('before_train_iter', **step)
        model, outputs, pixels = self.runner.model, [], []
        for part in split_batch(data_batch, self.parts):
            whole = dict(part, step=self._iter + 1)
            outputs.append(model.train_step(whole, optim_wrapper=self.runner.optim_wrapper))
            pixels.append(getattr(getattr(model, 'module', model), 'loss_pixels', 1.0))
        self.runner.call_hook('after_train_iter', **step, outputs=_mean_of(outputs, pixels))
        self._iter += 1

    def _count_parts(self) -> None:
        """Tell the optimizer wrapper how many calls of `train_step` make an iteration"""
        wrapper = self.runner.optim_wrapper
        if wrapper._accumulative_counts != 1:
            raise UserError(
                'optim_wrapper.accumulative_counts would count parts as iterations; use a larger '
                'train_dataloader.batch_size, and train_cfg.parts or --accumulate to divide it'
            )
        wrapper._accumulative_counts = self.parts
        done, last = self._iter * self.parts, self._max_iters * self.parts
        wrapper.initialize_count_status(self.runner.model, done, last)

    def _agree_to_stop(self) -> bool:
        """Tell whether any process was stop to stop; all processes get the same answer.

        The hosts exchange one number, so that nothing waits for an accelerator.
        """
        if self.hosts is None:
            return self.stop_training
        stop = torch.tensor(int(self.stop_training))
        dist.all_reduce(stop, dist.ReduceOp.MAX, group=self.hosts)
        return bool(stop)

    def _seed_step(self) -> None:
        rank, processes = get_dist_info()
        torch.manual_seed((self.runner.seed or 0) * 2**31 + self._iter * processes + rank)

    def _is_time_to_validate(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters


def accumulate_gradients(config: Config, parts: int) -> None:
    """Read each batch of a training in `parts`; the config is changed in place.

    An iteration stays a whole batch and one optimizer step, so lengths, intervals, schedules and
    the order of the data need no change. Batch norm sees one part at a time.

    Raises:
        UserError: the batch cannot be divided.
    """
    batch = config.train_dataloader.batch_size
    if parts < 1 or batch % parts:
        raise UserError(
            f'--accumulate {parts} does not divide train_dataloader.batch_size={batch}; '
            'choose a divisor, or another batch size'
        )
    config.train_cfg.parts = parts
    loss = config.model.get('robust_loss')
    if loss and loss.get('balance'):  # it counts the labels of each part
        loss['balance_memory'] = loss.get('balance_memory', BALANCE_MEMORY) ** (1 / parts)


def split_batch(batch: dict[str, list], parts: int) -> Iterator[dict[str, list]]:
    """Split {name: N values} into `parts` batches of N / parts values each, in order."""
    size = len(next(iter(batch.values()))) // parts
    for start in range(0, size * parts, size):
        yield {name: values[start : start + size] for name, values in batch.items()}


@torch.no_grad()
def _mean_of(outputs: list[dict], pixels: list) -> dict:
    """Average results of parts, each a mean over some pixels, over all pixels"""
    if len(outputs) == 1:
        return outputs[0]
    shares = [count / sum(pixels) for count in pixels]
    return {
        name: sum(share * part[name] for share, part in zip(shares, outputs)) for name in outputs[0]
    }


@contextmanager
def _batch_norm_of_one() -> Iterator[None]:
    """Explain the error of batch normalisation on a single value per channel"""
    try:
        yield
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise UserError(
            'batch normalisation cannot train on one position of one photo; use '
            'train_dataloader.batch_size=2 or more, or a larger crop'
        ) from error
