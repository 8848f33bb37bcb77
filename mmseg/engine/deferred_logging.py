import torch
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook, RuntimeInfoHook

from mmseg.registry import HOOKS


@HOOKS.register_module()
class DeferredLoggingHook(RuntimeInfoHook):
    """mmengine's RuntimeInfoHook, but losses are read when they are logged, all at once.

    Reading a value waits for the accelerator to finish the step; meanwhile it gets no further work.
    What is logged is the mean over the processes, that of the whole batch.
    """

    def before_train(self, runner):
        super().before_train(runner)
        self.waiting = []
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self.interval = min(loggers, default=10)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """The same place in the order of hooks: before the log is written."""
        if outputs:
            kept = {k: v.detach() if torch.is_tensor(v) else v for k, v in outputs.items()}
            self.waiting.append(kept)
        places = (runner.iter + 1, batch_idx + 1)
        logged = any(place % self.interval == 0 for place in places)
        if logged or places[1] == len(runner.train_dataloader) or places[0] == runner.max_iters:
            self._read(runner.message_hub)

    def after_train(self, runner):
        self._read(runner.message_hub)  # the rest of a run that was stopped
        super().after_train(runner)

    def _read(self, hub):
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
