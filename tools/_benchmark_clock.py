"""Time and memory: what a stage took, what a repeat spread, what a path held at most."""

import statistics
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import torch

from mmseg.utils.tensors import peak_memory

MIB = 2**20


class Clock:
    """Seconds by stage, the device's own work included.

    Args:
        device: 'cpu' or an accelerator's name, which is waited for at both ends of a stage.
    """

    def __init__(self, device):
        self.device, self.spent = torch.device(device), defaultdict(float)

    def wait(self):
        if self.device.type != 'cpu':
            torch.get_device_module(self.device).synchronize(self.device)

    @contextmanager
    def stage(self, name):
        self.wait()
        start = time.perf_counter()
        yield
        self.wait()
        self.spent[name] += time.perf_counter() - start

    @contextmanager
    def methods(self, owner, **names):
        """Within it, `owner.method` counts as the stage that `method=stage` says."""
        before = {method: vars(owner).get(method) for method in names}
        for method, name in names.items():
            setattr(owner, method, self._timed(getattr(owner, method), name))
        try:
            yield
        finally:
            for method, own in before.items():
                delattr(owner, method) if own is None else setattr(owner, method, own)

    def _timed(self, call, name):
        def timed(*args, **options):
            with self.stage(name):
                return call(*args, **options)

        return timed

    def milliseconds(self, stages, count):
        """-> {stage: ms for each of `count`}"""
        return {stage: 1000 * self.spent[stage] / count for stage in stages}


def spread(values):
    """numbers -> {'median', 'low', 'high'}"""
    return dict(median=statistics.median(values), low=min(values), high=max(values))


def spreads(rows):
    """[{stage: number}, ...] -> {stage: {'median', 'low', 'high'}}"""
    return {stage: spread([row[stage] for row in rows]) for stage in rows[0]}


@contextmanager
def peak_of(device, found):
    """Fill `found` with {'host_mib', 'device_mib'} at most held within the block.

    Of the host it is this process, the model included and its loader's workers left out; where the
    kernel cannot restart the count (Linux can) it is the most since the process began.
    """
    restarted = _restart_host()
    accelerator = torch.device(device).type != 'cpu'
    if accelerator:
        torch.get_device_module(device).reset_peak_memory_stats()
    yield found
    found['host_mib'] = round((_host_peak() if restarted else peak_memory('cpu')) / MIB)
    found['device_mib'] = round(peak_memory(device) / MIB) if accelerator else None


def _restart_host():
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return False
    return True


def _host_peak():
    (line,) = (x for x in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in x)
    return int(line.split()[1]) * 1024
