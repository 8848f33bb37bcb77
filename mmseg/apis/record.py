"""Record the settings, machine and weights of a run beside its log."""

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from mmengine.utils.dl_utils import collect_env
from torch import nn

from mmseg.models.frozen import frozen_modules
from mmseg.utils import read_json, write_json
from mmseg.utils.tensors import digest_state


def bare(model: nn.Module) -> Any:
    """Return the model inside a DistributedDataParallel, or the model itself."""
    return getattr(model, 'module', model)


def environment(device: object) -> dict[str, str]:
    """Describe this machine: {'device': ..., 'PyTorch': ...}."""
    return dict(device=str(device), **{key: str(value) for key, value in collect_env().items()})


def weights_digest(model: nn.Module) -> str:
    """Return the sha256 of all parameters and buffers, also of those outside checkpoints."""
    return digest_state({**dict(model.named_parameters()), **dict(model.named_buffers())})


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """Return the `weights_digest` of each frozen module: {'teacher': ...}"""
    return {name: weights_digest(module) for name, module in frozen_modules(model)}


def mean_figures(path: str | Path) -> dict[str, float]:
    """Read a reproduction.json of tools/reproduce.py: {row: mean mIoU in per cent of its seeds}.

    Rows are named after their configs. Without the file there are none.
    """
    if not Path(path).is_file():
        return {}
    rows = read_json(path)['rows']
    return {key: mean(seed['mIoU'] for seed in seeds.values()) for key, seeds in rows.items()}


def write_record(
    runner: Runner, config: Config, started: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write run.json beside the log, and return its content.

    Args:
        runner, config: the run.
        started: the content at the start, to add the end to; None at the start.
    """
    now, model = datetime.now().isoformat(timespec='seconds'), bare(runner.model)
    if started is None:
        record = dict(
            command=sys.argv,
            config=str(config.filename),
            started=now,
            resumed_from=config.load_from,
            seed=runner.seed,
            processes=get_world_size(),
            weights_sha256=weights_digest(model),
            frozen_sha256=frozen_digests(model),
            environment=environment(config.device),
            settings=config.pretty_text,
        )
    else:
        end = dict(ended=now, to_iteration=runner.iter, trained_sha256=weights_digest(model))
        record = {**started, **end}
    write_json(Path(runner.log_dir) / 'run.json', record)
    return record
