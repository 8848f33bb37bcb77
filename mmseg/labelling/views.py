"""One photo seen at several sizes and in the mirror: the mean of what a network says of it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.apis.inference import scale_of
from mmseg.models.resize import CELL as WINDOW_CELL
from mmseg.models.resize import photo_matrices, resize

CELL = 4  # pixels of the input per cell of the mean


def mean_probabilities(network, images, prior_crops=None, *, scales, flip) -> Tensor:
    """[(3, H, W)] RGB in 0..255, [(3, S, S)] or None -> (N, C, H / 4, W / 4) over the input.

    Args:
        network: a Segmentor.
        prior_crops: what its class weight looks at, the same whatever the scale.
        scales: multiples of the input's size.
        flip: also its mirror image at each scale.
    """
    images = torch.stack(images)
    height, width = images.shape[2:]
    grid = tuple(-(-side // CELL) for side in (height, width))
    total, count = 0, 0
    for scale in scales:
        size = tuple(max(1, round(side * scale)) for side in (height, width))
        sized = images
        if size != (height, width):
            sized = F.interpolate(images, size, mode='bilinear', antialias=True)
        for mirrored in (False, True)[: 1 + flip]:
            seen = sized.flip(3) if mirrored else sized
            found = _probabilities(network, seen, prior_crops, grid)
            total = total + (found.flip(3) if mirrored else found)
            count += 1
    return total / count


def _probabilities(network, images, prior_crops, grid):
    """-> (N, C, *grid), a grid that spans the input, not what it was padded to"""
    shape, scale = tuple(images.shape[2:]), scale_of(network)
    stride = network.score_stride or (WINDOW_CELL if network.windows else None)
    found = []
    for maps in network.query_logits(list(images), prior_crops):
        scores = network.to_input_grid(maps, shape).float()
        sure = scores if scale is None else (scores * scale).softmax(dim=0)
        matrices = photo_matrices(sure, grid, input_size=shape, stride=stride)
        found.append(resize(sure, *matrices))
    return torch.stack(found)
