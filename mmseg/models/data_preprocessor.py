from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseDataPreprocessor
from torch import Tensor


class SegDataPreprocessor(BaseDataPreprocessor):
    """Move a batch of photos and their samples to the model's device.

    Photos may differ in size and stay a list of uint8 tensors: networks normalise and pad by
    themselves, each with its own mean and std.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Move {'inputs': [(3, H, W) uint8], 'data_samples': [SegDataSample]}."""
        inputs, samples = (
            [item.to(self.device, non_blocking=True) for item in data[name]]
            for name in ('inputs', 'data_samples')
        )
        return dict(data, inputs=inputs, data_samples=samples)


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
