from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info, get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmseg.errors import UserError
from mmseg.registry import LOOPS, OPTIM_WRAPPERS


@LOOPS.register_module()
class StreamTrainLoop(IterBasedTrainLoop):
    """mmengine's loop by iterations over a `StreamSampler`.

    Each step is told its number (from 1 on) and draws its random numbers from the run's seed and
    that number; so a resumed run needs no state of generators, and starts at its place at once.

    Args:
        parts: pieces that a batch is read in, one after the other. An iteration is a whole batch:
            all parts add to the gradient, the optimizer steps once, the hooks run once.
        options: see `IterBasedTrainLoop`.
    """

    def __init__(self, *args, parts: int = 1, **options):
        super().__init__(*args, **options)
        self.parts = parts

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
        places = dict(batch_idx=self._iter, data_batch=data_batch)
        self.runner.call_hook('before_train_iter', **places)
        outputs = [
            self.runner.model.train_step(
                dict(part, step=self._iter + 1), optim_wrapper=self.runner.optim_wrapper
            )
            for part in split_batch(data_batch, self.parts)
        ]
        self.runner.call_hook('after_train_iter', **places, outputs=_mean_of(outputs))
        self._iter += 1

    def _count_parts(self) -> None:
        """Tell the optimizer's wrapper, which counts `train_step`s, how many make an iteration."""
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
        """Whether any process was asked to stop; all processes get one answer.

        One number goes round between the CPUs, so that nothing waits for an accelerator.
        """
        if get_world_size() == 1:
            return self.stop_training
        asked = torch.tensor(int(self.stop_training))
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)

    def _seed_step(self):
        rank, processes = get_dist_info()
        torch.manual_seed((self.runner.seed or 0) * 2**31 + self._iter * processes + rank)

    def _is_time_to_validate(self):
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters


def split_batch(batch: dict[str, list], parts: int) -> Iterator[dict[str, list]]:
    """{name: N values} -> `parts` batches of N / parts values each, in their order"""
    size = len(next(iter(batch.values()))) // parts
    for start in range(0, size * parts, size):
        yield {name: values[start : start + size] for name, values in batch.items()}


@torch.no_grad()
def _mean_of(outputs: list[dict]) -> dict:
    if len(outputs) == 1:
        return outputs[0]
    return {name: sum(part[name] for part in outputs) / len(outputs) for name in outputs[0]}


@contextmanager
def _batch_norm_of_one():
    try:
        yield
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise UserError(
            'batch normalisation cannot train on one place of one photo; use '
            'train_dataloader.batch_size=2 or more, or a larger crop'
        ) from error


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """bfloat16 autocast on the CPU, which mmengine's AmpOptimWrapper refuses; needs no scaling."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
