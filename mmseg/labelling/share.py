"""Which units are this process's: of --part on this machine, of the launcher's processes in it."""

import os
import time

import torch.distributed as dist

from mmseg.errors import UserError

NAMES = {'pytorch': ('RANK', 'WORLD_SIZE'), 'slurm': ('SLURM_PROCID', 'SLURM_NTASKS')}


def share_of(part, launcher):
    """'2/8' or '', a launcher -> (this process's share, of how many)

    Raises:
        UserError: a part that is none, or a launcher that did not start this process.
    """
    (place, parts), (rank, world) = part_of(part), rank_of(launcher)
    return place * world + rank, parts * world


def part_of(part):
    """'2/8' -> (1, 8); '' -> (0, 1)"""
    if not part:
        return 0, 1
    first, slash, parts = part.partition('/')
    if not (slash and first.isdigit() and parts.isdigit() and 1 <= int(first) <= int(parts)):
        raise UserError(f'--part is like 2/8, a part from 1 on and their number, not {part}')
    return int(first) - 1, int(parts)


def rank_of(launcher):
    """-> (which of the launcher's processes this is, of how many)"""
    if launcher == 'none':
        return 0, 1
    names = NAMES[launcher]
    if not all(name in os.environ for name in names):
        raise UserError(f'--launcher {launcher} needs {" and ".join(names)}')
    return tuple(int(os.environ[name]) for name in names)


def wait_for_others(failed):
    """torchrun stops all processes when one fails: one that will waits until all are through."""
    if not dist.is_torchelastic_launched():
        return
    store, rank, world = next(dist.rendezvous('env://'))
    try:
        store.set(f'labelled/{rank}', '1')
        while failed and not store.check([f'labelled/{i}' for i in range(world)]):
            time.sleep(0.5)
    except RuntimeError:
        pass  # the machine that keeps the store has ended, and so all others
