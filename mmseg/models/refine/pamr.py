"""Pixel-adaptive mask refinement: scores follow the photo's edges (Araslanov, Roth; CVPR 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.registry import MODELS

AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
CHUNK = 2**21  # elements of the scores at a time: it bounds the memory, and suits a core's cache


@MODELS.register_module()
class PAMR(nn.Module):
    """`pamr` as a config names it: the scores of a label map, refined at the photo's size.

    Args:
        steps, dilations: see `pamr`.

    Raises:
        UserError: steps or dilations that are no whole numbers above 0.
    """

    acts_on = 'scores'

    def __init__(self, steps=10, dilations=(8, 16)):
        super().__init__()
        for name, values in (('steps', [steps]), ('dilations', dilations)):
            whole = all(isinstance(value, int) and value > 0 for value in values)
            if not whole or not len(values):
                raise UserError(f'PAMR: {name} in whole numbers above 0, not {values!r}')
        self.steps, self.dilations = steps, tuple(dilations)

    def forward(self, scores, image) -> Tensor:
        """(N, C, h, w), (N, 3, H, W) normalised -> (N, C, H, W)"""
        return pamr(scores, image, steps=self.steps, dilations=self.dilations)


def pamr(scores, image, *, steps=10, dilations=(8, 16)) -> Tensor:
    """(N, C, h, w) of any unit, (N, 3, H, W) -> (N, C, H, W)

    A pixel becomes the mean of its neighbours, in which those of a like colour weigh more
    (`affinity`), again and again. Classes do not see each other, so that the memory beside scores
    and affinity is that of a few classes.

    Args:
        image: with CLIP's mean and std taken out; scores of another size are resized to its size
            (align_corners=True, as published).
        steps: how often.
        dilations: pixels between a pixel and its 8 neighbours, 8 for each.
    """
    height, width = image.shape[-2:]
    scores = scores.float()
    weights = affinity(image, dilations)
    classes = max(1, CHUNK // (len(image) * height * width))
    refined = []
    for part in scores.split(classes, dim=1):
        if part.shape[-2:] != (height, width):
            part = F.interpolate(part, (height, width), mode='bilinear', align_corners=True)
        for _ in range(steps):
            part = _mean_of_neighbours(part, weights, dilations)
        refined.append(part)
    return torch.cat(refined, dim=1)


def affinity(image, dilations) -> Tensor:
    """(N, 3, H, W) -> (N, 8 * len(dilations), H, W), weights of a pixel's neighbours, of sum 1.

    softmax over the neighbours of the colours' mean of -|difference| / (0.1 std); std is that of
    all neighbours and, once per dilation, of the pixel itself.
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


def _mean_of_neighbours(maps, weights, dilations):
    """(N, C, H, W), (N, K, H, W) -> (N, C, H, W); the pixel itself has no weight"""
    mean = torch.zeros_like(maps)
    for k, neighbour in enumerate(_neighbours(maps, dilations)):
        mean.addcmul_(neighbour, weights[:, k : k + 1])
    return mean


def _neighbours(maps, dilations):
    """(N, C, H, W) -> its shifts, views of (N, C, H, W); the border repeats outwards"""
    height, width = maps.shape[-2:]
    edge = max(dilations)
    padded = F.pad(maps, (edge,) * 4, mode='replicate')
    for dilation in dilations:
        for y, x in AROUND:
            top, left = edge + dilation * y, edge + dilation * x
            yield padded[..., top : top + height, left : left + width]
