"""Small tensors that the host makes and a device needs again and again."""

import functools

import torch


def kept_on_device(build):
    """Decorate `build(*arguments) -> Tensor`: `(device, *arguments)` -> that tensor there, kept.

    The last 64 are kept, and the copy does not wait for the device. What is kept is no tensor of
    inference mode, so that training may read it too.
    """

    @functools.lru_cache(maxsize=64)
    @torch.inference_mode(False)
    def keep(device, *arguments):
        source = build(*arguments)
        return source.to(device, non_blocking=True), source  # which the copy may still read

    @functools.wraps(build)
    def on_device(device, *arguments):
        if torch.compiler.is_compiling():  # whose tensors have no values to keep
            return build(*arguments).to(device)
        return keep(device, *arguments)[0]

    on_device.cache_clear = keep.cache_clear
    return on_device


@kept_on_device
def index_of(*places):
    """device, whole numbers -> (n) int64 there"""
    return torch.tensor(places)
