"""Units of work as a Ray Data job, on this machine or a cluster with one file system."""

import json
import os
import sys
from argparse import Namespace

from mmseg.errors import UserError
from mmseg.utils import CHECKOUT

from .units import PhotoUnit, TarUnit, label_unit


def run_units(units, arguments, workers):
    """Units, the command line as a dict, how many actors -> yields what `label_unit` returns

    An actor loads the model once; Ray gives it another unit when it is ready for one, and starts
    another actor in place of one that is lost. A cluster is found by RAY_ADDRESS.
    """
    if not units:  # Ray Data has no job of no rows
        return
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install -e '.[ray]'") from error
    if not ray.is_initialized():
        path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get('PYTHONPATH')])])
        ray.init(runtime_env=dict(env_vars=dict(PYTHONPATH=path)), include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    gpus = 1 if ray.cluster_resources().get('GPU') and arguments['device'] != 'cpu' else 0
    rows = [dict(unit=json.dumps(as_row(unit))) for unit in units]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        fn_constructor_args=[arguments, os.getcwd()],
        batch_size=1,
        num_gpus=gpus,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    for row in done.iter_rows():
        yield json.loads(row['result'])


def as_row(unit):
    """A unit -> what JSON can hold"""
    return dict(kind=type(unit).__name__, fields=unit)


def from_row(row):
    """The inverse of `as_row`, behind JSON"""
    if row['kind'] == 'TarUnit':
        return TarUnit(*row['fields'])
    return PhotoUnit(tuple(map(tuple, row['fields'][0])))


class Worker:
    """An actor: a loaded model that labels unit after unit."""

    def __init__(self, arguments, folder):
        from .command import make_labeller

        os.chdir(folder)
        sys.path.insert(0, str(CHECKOUT))
        self.labeller = make_labeller(Namespace(**arguments))

    def __call__(self, batch):
        results = [label_unit(from_row(json.loads(unit)), self.labeller) for unit in batch['unit']]
        return dict(result=[json.dumps(result) for result in results])
