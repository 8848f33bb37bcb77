"""Choose the device, the number format of products, and the processes of a group."""

import atexit
import ctypes
import os
import sys

import torch
import torch.distributed as dist
from mmengine.device import get_device

from mmseg.errors import UserError


def device_of(name: str | None = None) -> str:
    """Choose a device by its name, with or without an index; None takes the best one.

    A device with an index becomes the current one.

    Raises:
        UserError: no such device here.
    """
    best = get_device()
    device_type, _, index = str(name or best).partition(':')
    known = device_type in ('cpu', best)
    if known and index:
        module = torch.get_device_module(device_type)
        known = index.isdigit() and int(index) < module.device_count()
    if not known:
        raise UserError(
            f'no device {name!r} here; found: cpu' + (f', {best}' if best != 'cpu' else '')
        )
    if device_type == 'cpu' or not index:
        return device_type
    module.set_device(int(index))
    return f'{device_type}:{index}'


def allow_tf32(allowed: bool = True) -> None:
    """Choose IEEE fp32 products on a GPU, or products of inputs rounded to TF32.

    TF32 keeps 10 of 23 bits of the mantissa. PyTorch uses it in convolutions by default. The choice
    holds for the whole process: trainings, test loops and `init_model` make it.
    """
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision('high' if allowed else 'highest')


# glibc's mallopt parameters M_TRIM_THRESHOLD (-1) and M_MMAP_MAX (-4): to keep memory, and default
MALLOC_KEEPS, MALLOC_GIVES = {-1: 2**31 - 1, -4: 0}, {-1: 2**26, -4: 2**16}


def keep_freed_memory(keep: bool = True) -> None:
    """Keep large freed blocks in the process, for the next step.

    By default glibc returns them, and the system zeroes every page of the next ones, which takes a
    quarter of a training step on a CPU. With another C library, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if os.name == 'posix' else None
    if mallopt is not None:
        for parameter, value in (MALLOC_KEEPS if keep else MALLOC_GIVES).items():
            mallopt(parameter, value)


def init_processes(launcher: str, device: str) -> str:
    """Join the process group that torchrun or slurm describes; return this process's device.

    NCCL on GPUs, gloo on CPUs (mmengine's start assumes an accelerator). The backend is named:
    mmengine takes a group without one for gloo's, and sums on the CPU.
    """
    if device == 'cpu':
        keep_freed_memory()
    if launcher == 'none':
        return device
    if launcher == 'slurm':
        os.environ.setdefault('RANK', os.environ.get('SLURM_PROCID', '0'))
        os.environ.setdefault('WORLD_SIZE', os.environ.get('SLURM_NTASKS', '1'))
        os.environ.setdefault('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0'))
    if 'RANK' not in os.environ or 'MASTER_ADDR' not in os.environ:
        raise UserError(
            f'--launcher {launcher} needs the variables of torchrun (RANK, WORLD_SIZE, '
            'MASTER_ADDR, MASTER_PORT); start with tools/dist_test.sh'
        )
    share = max(1, (os.cpu_count() or 1) // int(os.environ.get('LOCAL_WORLD_SIZE', '1')))
    torch.set_num_threads(int(os.environ.setdefault('OMP_NUM_THREADS', str(share))))
    os.environ.setdefault('MKL_NUM_THREADS', os.environ['OMP_NUM_THREADS'])  # or mmengine warns
    if device == 'cpu':
        dist.init_process_group('gloo')
        return device
    module = torch.get_device_module(device)
    rank = int(os.environ['LOCAL_RANK'])
    if rank >= module.device_count():
        raise UserError(
            f'process {rank} of this machine has no device: '
            f'{module.device_count()} found; start no more processes than devices'
        )
    module.set_device(rank)
    local = torch.device(device.split(':')[0], rank)
    dist.init_process_group(dist.get_default_backend_for_device(local), device_id=local)
    return str(local)


def end_processes() -> None:
    """Leave the process group and end this process with code 0; without a group, do nothing.

    gloo's threads may free their last tensors late. Python aborts the process if that happens
    during its shutdown, so the exit functions run and the rest of the shutdown is skipped.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    dist.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
