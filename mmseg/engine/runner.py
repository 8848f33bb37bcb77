import logging
from collections import OrderedDict
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import CheckpointLoader, Runner

from mmseg.errors import UserError
from mmseg.utils import atomic_path, point_to
from mmseg.utils.checkpoint import read_checkpoint

# mmengine's own reader cannot read its checkpoints under torch >= 2.6.
CheckpointLoader.register_scheme(prefixes='', loader=read_checkpoint, force=True)


def _is_for_users(record):
    """mmengine warns of its own deprecated parts, which nobody here can change."""
    return not any(name in record.getMessage() for name in ('HardDiskBackend', 'FileClient'))


class PlainCheckpointHook(Hook):
    """Keep the log's histories out of checkpoints, which then hold plain values and tensors."""

    def before_save_checkpoint(self, runner, checkpoint):
        names = ('log_scalars', 'runtime_info', 'resumed_keys')
        checkpoint['message_hub'] = {name: OrderedDict() for name in names}


class SegRunner(Runner):
    """mmengine's Runner on the device of the config, its console kept for results.

    Settings, environment and hooks go to the log file alone; warnings go to both.
    """

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.WARNING)
                handler.addFilter(_is_for_users)
        return logger

    def wrap_model(self, model_wrapper_cfg, model):
        """To the device; behind DistributedDataParallel where there is something to train."""
        device = self.cfg.get('device', 'cpu')
        model = model.to(device)
        if not self.distributed or not any(p.requires_grad for p in model.parameters()):
            return model
        ids = None if device == 'cpu' else [int(device.rsplit(':', 1)[1])]
        return MMDistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def register_hooks(self, default_hooks=None, custom_hooks=None):
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(PlainCheckpointHook())

    def load_checkpoint(self, filename, map_location='cpu', strict=True, **kwargs):
        """As mmengine's, but every weight must find its place."""
        try:
            return super().load_checkpoint(filename, map_location, strict, **kwargs)
        except RuntimeError as error:
            reason = ' '.join(str(error).split())[:200]
            raise UserError(
                f'the checkpoint {filename} is of another model than the config: {reason}'
            ) from error

    @master_only
    def save_checkpoint(self, out_dir, filename, *args, **kwargs):
        """As mmengine's, but written beside and renamed, so that no reader meets half a file."""
        target = Path(out_dir) / filename
        try:
            with atomic_path(target) as temporary:
                super().save_checkpoint(out_dir, temporary.name, *args, **kwargs)
            if target.stem.startswith('iter_'):
                point_to(target, target.with_name('latest.pth'))
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'cannot write the checkpoint {target}: {reason}') from error
