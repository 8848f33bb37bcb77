"""Pixel-adaptive mask refinement: scores follow the photo's edges (Araslanov, Roth; CVPR 2020)."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from mmseg.registry import MODELS
from mmseg.utils import Count, validated

AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
# They and their neighbours' weights fit the caches of a CPU, or fill an accelerator.
LOGITS_AT_A_TIME = dict(cpu=2**20, accelerator=2**21)
Dilations = Annotated[tuple[Count, ...], MinLen(1)]


@MODELS.register_module()
class PAMR(nn.Module):
    """Refine logits at the photo's size by `pamr`.

    Args:
        steps, dilations: see `pamr`.

    Raises:
        UserError: steps or dilations that are no whole numbers above 0, or no dilations.
    """

    acts_on = 'scores'

    @validated
    def __init__(self, steps: Count = 10, dilations: Dilations = (8, 16)) -> None:
        super().__init__()
        self.steps, self.dilations = steps, tuple(dilations)

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Refine: (N, C, h, w), (N, 3, H, W) normalised -> (N, C, H, W)"""
        return pamr(logits, image, steps=self.steps, dilations=self.dilations)


def pamr(
    logits: Tensor, image: Tensor, *, steps: int = 10, dilations: Sequence[int] = (8, 16)
) -> Tensor:
    """Refine logits of any unit by the photo: (N, C, h, w), (N, 3, H, W) -> (N, C, H, W)

    In each step a pixel becomes the mean of its neighbours, weighted by `affinity`. Images and
    classes do not mix, so a few of them at a time are refined.

    Args:
        image: normalised by CLIP's mean and std; logits of another size are resized to its size
            (align_corners=True, as published).
        dilations: distances of the neighbours, 8 for each.
    """
    height, width = image.shape[-2:]
    size = logits.shape[1] * height * width
    most = LOGITS_AT_A_TIME['cpu' if image.device.type == 'cpu' else 'accelerator']
    images, classes = max(1, most // size), max(1, most // (height * width))
    refined = []
    for some_logits, some_images in zip(logits.float().split(images), image.split(images)):
        weights, parts = affinity(some_images, dilations), []
        for part in some_logits.split(classes, dim=1):
            if part.shape[-2:] != (height, width):
                part = F.interpolate(part, (height, width), mode='bilinear', align_corners=True)
            for _ in range(steps):
                part = _mean_of_neighbours(part, weights, dilations)
            parts.append(part)
        refined.append(torch.cat(parts, dim=1))
    return torch.cat(refined)


def affinity(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weigh the neighbours of each pixel: (N, 3, H, W) -> (N, 8 * len(dilations), H, W) of sum 1

    They are the softmax over the neighbours of the colours' mean of -|difference| / (0.1 std). The
    std is that of all neighbours and, once per dilation, of the pixel itself.
    """
    image = image.float()
    samples = 9 * len(dilations)
    mean, squares = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in _neighbours(image, dilations):
        mean += (neighbour - image) / samples  # differences, so that no digits are lost
    for neighbour in _neighbours(image, dilations):
        squares += (neighbour - image - mean).square()
    squares += len(dilations) * mean.square()  # the pixel itself
    spread = 1e-8 + 0.1 * (squares / (samples - 1)).sqrt()
    likeness = [
        -((neighbour - image).abs() / spread).mean(dim=1)
        for neighbour in _neighbours(image, dilations)
    ]
    return torch.stack(likeness, dim=1).softmax(dim=1)


def _mean_of_neighbours(logits: Tensor, weights: Tensor, dilations: Sequence[int]) -> Tensor:
    """(N, C, H, W), (N, K, H, W) -> (N, C, H, W); the pixel itself has no weight"""
    mean = torch.zeros_like(logits)
    for k, neighbour in enumerate(_neighbours(logits, dilations)):
        mean.addcmul_(neighbour, weights[:, k : k + 1])
    return mean


def _neighbours(logits: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """(N, C, H, W) -> its shifts, views of (N, C, H, W); the border repeats outwards"""
    height, width = logits.shape[-2:]
    edge = max(dilations)
    padded = F.pad(logits, (edge,) * 4, mode='replicate')
    for dilation in dilations:
        for y, x in AROUND:
            top, left = edge + dilation * y, edge + dilation * x
            yield padded[..., top : top + height, left : left + width]
