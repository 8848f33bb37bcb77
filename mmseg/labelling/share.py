"""Divide units among the parts of --part, and each part among a launcher's processes."""

import os
import time

from mmseg.errors import UserError

VARIABLES = {'pytorch': ('RANK', 'WORLD_SIZE'), 'slurm': ('SLURM_PROCID', 'SLURM_NTASKS')}


def share_of(part: str, launcher: str) -> tuple[int, int]:
    """Return (index of this process's share, number of shares) for a part such as '2/8' or ''.

    Raises:
        UserError: a malformed part, or a launcher that did not start this process.
    """
    first, _, parts = (part or '1/1').partition('/')
    if not (first.isdigit() and parts.isdigit() and 1 <= int(first) <= int(parts)):
        raise UserError(f'--part is like 2/8, a part from 1 on and their number, not {part}')
    rank, world = rank_of(launcher)
    return (int(first) - 1) * world + rank, int(parts) * world


def rank_of(launcher: str) -> tuple[int, int]:
    """Return (rank, number) of the launcher's processes.

    Raises:
        UserError: the launcher did not start this process.
    """
    if launcher == 'none':
        return 0, 1
    names = VARIABLES[launcher]
    if not all(name in os.environ for name in names):
        raise UserError(f'--launcher {launcher} needs {" and ".join(names)}')
    rank, world = (int(os.environ[name]) for name in names)
    return rank, world


def wait_for_others(failed: bool) -> None:
    """Let a process that will fail wait until all are done: torchrun stops all when one fails."""
    import torch.distributed as dist

    if not dist.is_torchelastic_launched():
        return
    store, rank, world = next(dist.rendezvous('env://'))
    try:
        store.set(f'labelled/{rank}', '1')
        while failed and not store.check([f'labelled/{i}' for i in range(world)]):
            time.sleep(0.5)
    except RuntimeError:
        pass  # the machine that keeps the store has ended, and so all others
