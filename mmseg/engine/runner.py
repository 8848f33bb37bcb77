import logging

from mmengine.runner import Runner


class SegRunner(Runner):
    """mmengine's Runner on the device of the config, its console kept for results.

    Settings, environment and hooks go to the log file alone; warnings go to both.
    """

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.WARNING)
        return logger

    def wrap_model(self, model_wrapper_cfg, model):
        return model.to(self.cfg.get('device', 'cpu'))
