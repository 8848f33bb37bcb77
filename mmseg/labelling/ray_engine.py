"""Units of work as a Ray Data job, on this machine or a cluster with one file system."""

import json
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmseg.errors import require_packages
from mmseg.utils import CHECKOUT

from .units import Unit, label_unit


def run_units(
    units: Sequence[Unit], arguments: Mapping[str, Any], workers: int
) -> Iterator[dict[str, Any]]:
    """Label units by Ray actors; yield the results of `label_unit`.

    An actor loads the model once. Ray gives it another unit when it is ready for one, and starts
    another actor in place of one that is lost. RAY_ADDRESS names a cluster.

    Args:
        units: the units.
        arguments: the command line of tools/pseudo_label.py.
        workers: the number of actors.

    Raises:
        UserError: Ray is not installed.
    """
    if not units:  # Ray Data has no job of no rows
        return
    require_packages('--scheduler ray', 'ray.data', extra='ray')
    import ray

    if not ray.is_initialized():
        path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get('PYTHONPATH')])])
        ray.init(runtime_env=dict(env_vars=dict(PYTHONPATH=path)), include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    gpus = 1 if ray.cluster_resources().get('GPU') and arguments['device'] != 'cpu' else 0
    indices = [*range(len(units))]  # `ray.data.range` would need a CPU beside the actors'
    done = ray.data.from_items(indices, override_num_blocks=len(units)).map_batches(
        Worker,
        fn_constructor_args=[units, arguments, os.getcwd()],
        batch_size=1,
        num_gpus=gpus,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    for row in done.iter_rows():
        yield json.loads(row['result'])


class Worker:
    """An actor: a loaded model that labels unit after unit."""

    def __init__(self, units: Sequence[Unit], arguments: Mapping[str, Any], folder: str) -> None:
        from .command import make_labeller

        os.chdir(folder)
        self.units = units
        self.labeller = make_labeller(Namespace(**arguments))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        units = [self.units[index] for index in batch['item']]
        return dict(result=[json.dumps(label_unit(unit, self.labeller)) for unit in units])
