import resource
import sys

import torch


def peak_memory(device):
    """'cpu' or an accelerator's name -> bytes at most in use so far, of this process there"""
    if str(device) == 'cpu':
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.get_device_module(device).max_memory_allocated()
