"""Test a network by a chosen engine and in a chosen precision, compiled on request."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch import Tensor
from torch.utils.data import DataLoader

from mmseg.errors import UserError
from mmseg.models.engines import Engine, EngineName, Precision
from mmseg.registry import LOOPS
from mmseg.utils import Settings, validated

from .launch import allow_tf32


@LOOPS.register_module()
class SegTestLoop(TestLoop):
    """Test in a precision, compiled on request; scores and counts stay on the device.

    Args:
        runner, dataloader, evaluator: mmengine's.
        engine, precision: see `mmseg.models.engines.Engine`.
        compile: apply `torch.compile` to the network; each new input shape may cost a minute. For
            the engine 'torch'.
    """

    @validated
    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | Settings,
        evaluator: Evaluator | Settings | Sequence[Settings],
        *,
        engine: EngineName = 'torch',
        precision: Precision = 'fp32',
        compile: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        device = runner.cfg.get('device') or 'cpu'
        self.engine = Engine(engine, precision, device)
        if compile and engine != 'torch':
            raise UserError(f'test_cfg.compile is for the engine torch, not {engine}')
        if compile:
            compile_network(runner.model)
        if not self.engine.is_default:
            self._start_engine()

    def _start_engine(self) -> None:
        """Let the engine run the network; print the share of the labels that it keeps."""
        indices = self.engine.choose(len(self.dataloader.dataset))
        model = getattr(self.runner.model, 'module', self.runner.model).eval()
        line = self.engine.start(model, [partial(self._label, i) for i in indices])
        if is_main_process():
            print(line, flush=True)

    @torch.no_grad()
    def _label(self, index: int) -> Tensor:
        batch = {key: [value] for key, value in self.dataloader.dataset[index].items()}
        return self.runner.model.test_step(batch)[0].pred_sem_seg

    def run(self) -> dict[str, float]:
        """Test all photos and return {metric: value}."""
        allow_tf32(self.engine.precision == 'tf32')
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict[str, Any]) -> None:
        """Pass one batch through the network, the evaluator and the hooks."""
        batch = dict(batch_idx=idx, data_batch=data_batch)
        self.runner.call_hook('before_test_iter', **batch)
        outputs = self.runner.model.test_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook('after_test_iter', **batch, outputs=outputs)


def compile_network(model: Any) -> None:
    """Compile what runs on whole inputs and on windows, in place."""
    model = getattr(model, 'module', model)
    model.window_logits = torch.compile(model.window_logits)
