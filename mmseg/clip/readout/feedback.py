"""A first answer's classes as a map of which patches belong together (ResCLIP, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

NONE = -1  # the class of patches of which nothing is believed
TAPS, SIGMA = 31, 5.0  # of the smoothing


def patch_classes(scores, image, settings, *, cell, refine=None) -> Tensor:
    """(N, C, h, w) cosines, (N, 3, H, W) -> (N, h, w) the most frequent class per patch, or NONE.

    Args:
        settings: a Feedback.
        cell: pixels per patch.
        refine: (N, C, H, W) cosines, image -> the same, such as PAMR's; None for none.
    """
    grid = scores.shape[-2:]
    size = (grid[0] * cell, grid[1] * cell)
    image = image[..., : size[0], : size[1]]
    image = F.pad(image, (0, size[1] - image.shape[-1], 0, size[0] - image.shape[-2]), 'replicate')
    scores = F.interpolate(scores, size, mode='bilinear', align_corners=False)
    if refine is not None:
        scores = refine(scores, image)
    best, classes = (settings.scale * scores).softmax(dim=1).max(dim=1)
    unsure = NONE if settings.unsure == 'none' else 0
    classes = classes.masked_fill(best < settings.threshold, unsure)
    cells = classes.unflatten(2, (-1, cell)).unflatten(1, (-1, cell)).transpose(2, 3)
    return cells.flatten(3).mode(dim=3).values


def class_map(classes, settings, *, like) -> Tensor:
    """(N, h, w), NONE where there is none -> (N, h*w, h*w) in 0..1, the highest of an image 1.

    High for patches of one class, lower where the line between them leaves it, smoothed over the
    second patch. An image without a class is 0 throughout.
    """
    grid, flat = tuple(classes.shape[1:]), classes.flatten(1)
    same = (flat[:, :, None] == flat[:, None]) & (flat != NONE)[:, :, None]
    belong = same.to(like.dtype)
    if settings.line != 'none':
        steps = pair_steps(grid, like.device)
        apart = (-steps / steps.max().clamp_min(1)).exp().to(like.dtype)
        belong = torch.where(connected(classes, settings.line), belong, belong * apart)
    smooth = smooth_rows if settings.smooth == 'rows' else smooth_grid
    belong = smooth(belong, grid)
    belong = belong / (belong.sum(dim=2, keepdim=True) + 1e-8)
    belong = belong / belong.amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)
    return belong.half().to(like.dtype) if settings.half else belong


def pair_steps(grid, device):
    """(h, w) -> (h*w, h*w) steps of a king from one patch to the other"""
    places = _places(grid, device)
    return (places[:, None] - places[:, :, None]).abs().amax(dim=0)


def connected(classes, line) -> Tensor:
    """(N, h, w) -> (N, h*w, h*w) bool: the straight line between two patches stays in their class.

    It is looked at in as many samples as it has steps. 'whole' spreads them over the line; 'start'
    spreads those of the longest line and looks at the first ones, as in the published code.
    """
    grid, flat = tuple(classes.shape[1:]), classes.flatten(1)
    places, steps = _places(grid, classes.device), pair_steps(grid, classes.device)
    here, other = places[:, :, None].float(), places[:, None].float()
    most, stays = max(grid) - 1, torch.ones_like(flat[:, :, None] == flat[:, None])
    for k, share in enumerate(torch.linspace(0, 1, most + 1, device=classes.device)):
        if line == 'whole':
            share = (k / steps.clamp_min(1)).clamp_max(1)
        rows, columns = (here * (1 - share) + other * share).round().long()
        there = flat[:, rows * grid[1] + columns]
        stays &= (there == flat[:, :, None]) | (k > steps)
    return stays


def smooth_rows(values, grid) -> Tensor:
    """(N, L, h*w) -> the same, a Gaussian along the row-major index, over the ends of rows"""
    flat = F.conv1d(values.flatten(0, 1)[:, None], _gaussian(values)[None, None], padding=TAPS // 2)
    return flat[:, 0].unflatten(0, values.shape[:2])


def smooth_grid(values, grid) -> Tensor:
    """(N, L, h*w) -> the same, a Gaussian over the grid"""
    taps, maps = _gaussian(values), values.flatten(0, 1)[:, None].unflatten(2, grid)
    maps = F.conv2d(maps, taps.view(1, 1, -1, 1), padding=(TAPS // 2, 0))
    maps = F.conv2d(maps, taps.view(1, 1, 1, -1), padding=(0, TAPS // 2))
    return maps.flatten(1).unflatten(0, values.shape[:2])


def _gaussian(like):
    at = torch.arange(TAPS, dtype=like.dtype, device=like.device) - TAPS // 2
    taps = (-at.square() / (2 * SIGMA**2)).exp()
    return taps / taps.sum()


def _places(grid, device):
    """(h, w) -> (2, h*w) row and column of each patch"""
    return torch.cartesian_prod(*(torch.arange(side, device=device) for side in grid)).T
