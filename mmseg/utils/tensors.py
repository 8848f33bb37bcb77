"""Helpers for tensors. `mmseg.utils` itself does not import PyTorch."""

import functools
import hashlib
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from .values import validated

RGB = tuple[float, float, float]  # a number for each channel
Mean = Annotated[float, Interval(ge=-10, le=10)]
Deviation = Annotated[float, Interval(ge=1e-3, le=10)]


def bincount(index: Tensor, bins: int) -> Tensor:
    """Count the values of an index: (N) -> (bins) int64.

    Unlike torch.bincount, it does not wait for the device to know the largest value.
    """
    index = index.long()
    return index.new_zeros(bins).scatter_add_(0, index, torch.ones_like(index))


@validated
def channel_statistics(
    mean: tuple[Mean, Mean, Mean], std: tuple[Deviation, Deviation, Deviation]
) -> tuple[Tensor, Tensor]:
    """Convert mean and deviation of RGB in 0..1 to (3, 1, 1) tensors for RGB in 0..255.

    Raises:
        UserError: a number out of its range. A deviation of 0 would turn every image into NaN.
    """
    return torch.tensor(mean).view(3, 1, 1) * 255, torch.tensor(std).view(3, 1, 1) * 255


def kept_on_device(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate `build(*arguments) -> Tensor`, to be called as `f(device, *arguments)`.

    The last 64 results are kept. The copy to the device does not block. Results are no inference
    tensors, so training may use them too.
    """

    @functools.lru_cache(maxsize=64)
    @torch.inference_mode(False)
    def keep(device: torch.device, *arguments: Any) -> tuple[Tensor, Tensor]:
        source = build(*arguments)
        return source.to(device, non_blocking=True), source  # the copy may still read the source

    @functools.wraps(build)
    def on_device(device: torch.device, *arguments: Any) -> Tensor:
        if torch.compiler.is_compiling():  # its tensors have no values to keep
            return build(*arguments).to(device)
        return keep(device, *arguments)[0]

    on_device.cache_clear = keep.cache_clear  # type: ignore[attr-defined]
    return on_device


def stack_padded(images: Sequence[Tensor], fill: Tensor, *, least: int | None = None) -> Tensor:
    """Pad at the right and bottom: [(..., H_i, W_i)], (..., 1, 1) -> (N, ..., H, W)

    Args:
        fill: value of the padding. Filled with a network's mean, an image is 0 there once it is
            normalised.
        least: H and W are those of the largest image, and at least this.
    """
    height, width = (max(least or 0, *(image.shape[d] for image in images)) for d in (-2, -1))
    batch = fill.expand(len(images), *fill.shape[:-2], height, width).clone()
    for row, image in zip(batch, images):
        row[..., : image.shape[-2], : image.shape[-1]] = image
    return batch


@kept_on_device
def index_of(*positions: int) -> Tensor:
    """device, integers -> (n) int64 on the device"""
    return torch.tensor(positions)


def digest_state(state: Mapping[str, Tensor]) -> str:
    """Compute the sha256 of all names, dtypes, shapes and values."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f'{name} {tensor.dtype} {tuple(tensor.shape)};'.encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def peak_memory(device: str | torch.device) -> int:
    """Return the most bytes that this process has used, on the CPU or on an accelerator."""
    if str(device) == 'cpu':
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.get_device_module(device).max_memory_allocated()
