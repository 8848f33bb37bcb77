import torch
from mmengine.runner import TestLoop

from mmseg.errors import UserError
from mmseg.registry import LOOPS

from .launch import allow_tf32

DTYPES = dict(fp32=torch.float32, tf32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
PRECISIONS = ('auto', *DTYPES)


def autocast_of(precision, device):
    """One of PRECISIONS, a device's name -> the context in which the network runs.

    'auto' is fp32 on CPUs and fp16 on accelerators, as fast there as bf16 and ten times nearer to
    the labels of fp32 (docs/performance.md). TF32 is chosen apart, see `allow_tf32`.

    Raises:
        UserError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f'precision is one of {", ".join(PRECISIONS)}, not {precision!r}')
    kind = torch.device(device).type
    if precision == 'auto':
        precision = 'fp32' if kind == 'cpu' else 'fp16'
    dtype = DTYPES[precision]
    return torch.autocast(kind, dtype, enabled=dtype != torch.float32)


@LOOPS.register_module()
class SegTestLoop(TestLoop):
    """mmengine's test loop in a precision, compiled if asked; scores and counts stay on the device.

    Args:
        runner, dataloader, evaluator: mmengine's.
        precision: one of PRECISIONS.
        compile: let `torch.compile` have the network; each new shape of input may cost a minute.
    """

    def __init__(self, runner, dataloader, evaluator, *, precision='fp32', compile=False):
        super().__init__(runner, dataloader, evaluator)
        device = runner.cfg.get('device', 'cpu')
        self.precision, self.autocast = precision, autocast_of(precision, device)
        if compile:
            compile_network(runner.model)

    def run(self) -> dict:
        """Test all photos -> {metric: value}; TF32 only where the precision names it."""
        allow_tf32(self.precision == 'tf32')
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx, data_batch):
        """One batch through the network, the evaluator and the hooks."""
        batch = dict(batch_idx=idx, data_batch=data_batch)
        self.runner.call_hook('before_test_iter', **batch)
        with self.autocast:
            outputs = self.runner.model.test_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook('after_test_iter', **batch, outputs=outputs)


def compile_network(model):
    """Compile in place what runs on windows and on whole inputs."""
    model = getattr(model, 'module', model)
    model.window_logits = torch.compile(model.window_logits)
