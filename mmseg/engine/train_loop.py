from contextlib import contextmanager

import torch
from mmengine.dist import get_dist_info
from mmengine.runner import IterBasedTrainLoop

from mmseg.errors import UserError
from mmseg.registry import LOOPS


@LOOPS.register_module()
class StreamTrainLoop(IterBasedTrainLoop):
    """mmengine's loop by iterations over a `StreamSampler`.

    Each step is told its number (from 1 on) and draws its random numbers from the run's seed and
    that number; so a resumed run needs no state of generators, and starts at its place at once.
    """

    def run(self):
        """Train from the current iteration to the last, or until somebody sets `stop_training`."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        loader = self.dataloader
        loader.sampler.start = self._iter * loader.batch_size * loader.sampler.processes
        batches = iter(loader)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self._seed_step()
            with _batch_norm_of_one():
                self.run_iter(dict(next(batches), step=self._iter + 1))
            if self._is_time_to_validate():
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _seed_step(self):
        rank, processes = get_dist_info()
        torch.manual_seed((self.runner.seed or 0) * 2**31 + self._iter * processes + rank)

    def _is_time_to_validate(self):
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters


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
