"""The published batch on a small device: parts of it one after the other, one step for all."""

from mmseg.errors import UserError
from mmseg.models.robust_loss import BALANCE_MEMORY

AVERAGES = ('EMAHook', 'AverageStudentHook')
LENGTHS = ('begin', 'end', 'T_max', 'warmup_iters')  # of a schedule, in iterations


def accumulate_gradients(config, parts):
    """A Config -> the same training with each batch read in `parts`; changed in place.

    mmengine counts an iteration per part; so all that is counted in iterations is multiplied.
    Batch norm sees a part at a time, and each part's loss is a mean over its own pixels.

    Raises:
        UserError: the batch does not divide.
    """
    batch = config.train_dataloader.batch_size
    if parts < 1 or batch % parts:
        raise UserError(
            f'--accumulate {parts} does not divide train_dataloader.batch_size={batch}; '
            'choose a divisor, or another batch size'
        )
    config.train_dataloader.batch_size = batch // parts
    config.optim_wrapper.accumulative_counts = parts
    for name in ('max_iters', 'val_interval', 'val_begin'):
        if name in config.train_cfg:
            config.train_cfg[name] *= parts
    for schedule in config.get('param_scheduler') or []:
        for name in LENGTHS:
            if schedule.get(name) is not None:
                schedule[name] *= parts
    hooks = config.default_hooks
    for name in ('checkpoint', 'logger'):
        if 'interval' in (hooks.get(name) or {}):
            hooks[name].interval *= parts
    for hook in config.get('custom_hooks') or []:
        if hook.get('type') in AVERAGES:
            hook['interval'] = hook.get('interval', 1) * parts
    loss = config.model.get('robust_loss')
    if loss and loss.get('balance'):  # counts at every part
        loss['balance_memory'] = loss.get('balance_memory', BALANCE_MEMORY) ** (1 / parts)
    for phase in ('start_clip_guided', 'start_self_train'):
        if phase in config.model:
            first, last = config.model[phase]
            first = first if first < 1 else (first - 1) * parts + 1
            config.model[phase] = (first, last if last < 1 else last * parts)
