"""The published batch on a small device: its parts one after the other, one step for all."""

from mmengine.config import Config

from mmseg.errors import UserError
from mmseg.models.robust_loss import BALANCE_MEMORY


def accumulate_gradients(config: Config, parts: int) -> None:
    """Read each batch of a training in `parts`; the config is changed in place.

    An iteration stays a whole batch and one optimizer step, so lengths, intervals, schedules and
    the order of the data stay those of the config. Batch norm sees a part at a time.

    Raises:
        UserError: the batch does not divide.
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
