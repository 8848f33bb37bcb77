"""Test a network in a chosen precision, compiled on request."""

import typing
from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from mmseg.errors import UserError
from mmseg.registry import LOOPS
from mmseg.utils import Settings, validated

from .launch import allow_tf32

DTYPES = dict(fp32=torch.float32, tf32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
Precision = Literal['auto', 'fp32', 'tf32', 'bf16', 'fp16']
PRECISIONS = typing.get_args(Precision)


def autocast_of(precision: str, device: str) -> torch.autocast:
    """Choose the autocast context of a precision, one of PRECISIONS, on a device.

    'auto' is fp32 on CPUs and fp16 on accelerators, where it is as fast as bf16 and changes ten
    times fewer labels (docs/performance.md). `allow_tf32` switches TF32.

    Raises:
        UserError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f'precision is one of {", ".join(PRECISIONS)}, not {precision!r}')
    device_type = torch.device(device).type
    if precision == 'auto':
        precision = 'fp32' if device_type == 'cpu' else 'fp16'
    dtype = DTYPES[precision]
    return torch.autocast(device_type, dtype, enabled=dtype != torch.float32)


@LOOPS.register_module()
class SegTestLoop(TestLoop):
    """Test in a precision, compiled on request; scores and counts stay on the device.

    Args:
        runner, dataloader, evaluator: mmengine's.
        precision: one of PRECISIONS.
        compile: apply `torch.compile` to the network; each new input shape may cost a minute.
    """

    @validated
    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | Settings,
        evaluator: Evaluator | Settings | Sequence[Settings],
        *,
        precision: Precision = 'fp32',
        compile: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        device = runner.cfg.get('device') or 'cpu'
        self.precision, self.autocast = precision, autocast_of(precision, device)
        if compile:
            compile_network(runner.model)

    def run(self) -> dict[str, float]:
        """Test all photos and return {metric: value}."""
        allow_tf32(self.precision == 'tf32')
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict[str, Any]) -> None:
        """Pass one batch through the network, the evaluator and the hooks."""
        batch = dict(batch_idx=idx, data_batch=data_batch)
        self.runner.call_hook('before_test_iter', **batch)
        with self.autocast:
            outputs = self.runner.model.test_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook('after_test_iter', **batch, outputs=outputs)


def compile_network(model: Any) -> None:
    """Compile what runs on whole inputs and on windows, in place."""
    model = getattr(model, 'module', model)
    model.window_logits = torch.compile(model.window_logits)
