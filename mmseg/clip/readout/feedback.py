"""Classes of a first pass as an affinity of patches for a second pass (ResCLIP, section 3.3)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .switches import Feedback

NO_CLASS = -1
TAPS, SIGMA = 31, 5.0  # of the Gaussian filter
Refine = Callable[[Tensor, Tensor], Tensor]  # (N, C, H, W) cosines, (N, 3, H, W) -> (N, C, H, W)


def patch_classes(
    cosines: Tensor, image: Tensor, settings: Feedback, *, stride: int, refine: Refine | None = None
) -> Tensor:
    """Find the most frequent class of the pixels of each patch.

    (N, C, h, w) cosines, (N, 3, H, W) normalised image -> (N, h, w) classes or NO_CLASS

    Args:
        stride: pixels per patch.
        refine: refines the upsampled cosines, for example by PAMR.
    """
    height, width = (cells * stride for cells in cosines.shape[-2:])
    image = image[..., :height, :width]
    padding = (0, width - image.shape[-1], 0, height - image.shape[-2])
    image = F.pad(image, padding, 'replicate')
    cosines = F.interpolate(cosines, (height, width), mode='bilinear', align_corners=False)
    if refine is not None:
        cosines = refine(cosines, image)
    confidence, classes = (settings.scale * cosines).softmax(dim=1).max(dim=1)
    uncertain = NO_CLASS if settings.unsure == 'none' else 0
    classes = classes.masked_fill(confidence < settings.threshold, uncertain)
    # (N, h, w, stride * stride)
    cells = classes.unflatten(2, (-1, stride)).unflatten(1, (-1, stride)).transpose(2, 3).flatten(3)
    return cells.mode(dim=3).values


def class_affinity(classes: Tensor, settings: Feedback, *, like: Tensor) -> Tensor:
    """Compute the affinity F of patches from their classes (semantic feedback refinement).

    It is high for patches of one class, decays where the line between them leaves the class, and is
    smoothed over the second patch. The maximum of an image is 1; without any class all are 0.

    (N, h, w) classes or NO_CLASS -> (N, h*w, h*w) in 0..1

    Args:
        like: its dtype is the result's.
    """
    grid, flat = (classes.shape[1], classes.shape[2]), classes.flatten(1)
    same_class = (flat[:, :, None] == flat[:, None]) & (flat != NO_CLASS)[:, :, None]
    affinity = same_class.to(like.dtype)
    steps = chebyshev_distance(grid, classes.device)
    decay = (-steps / steps.max().clamp_min(1)).exp().to(like.dtype)
    affinity = torch.where(line_stays_in_class(classes, settings.line), affinity, affinity * decay)
    smooth = smooth_rows if settings.smooth == 'rows' else smooth_grid
    affinity = smooth(affinity, grid)
    affinity = affinity / (affinity.sum(dim=2, keepdim=True) + 1e-8)
    affinity = affinity / affinity.amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)
    return affinity.half().to(like.dtype) if settings.half else affinity


def chebyshev_distance(grid: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w) -> (h*w, h*w): steps from patch to patch, diagonal steps included"""
    positions = _positions(grid, device)
    return (positions[:, None] - positions[:, :, None]).abs().amax(dim=0)


def line_stays_in_class(classes: Tensor, line: str) -> Tensor:
    """Tell whether the straight line between two patches stays in the class of the first.

    A line of n steps is sampled n + 1 times. 'whole' spreads these samples over the line. 'start'
    spreads them as on the longest line of the grid, so that they cover the beginning of shorter
    lines only (published code).

    (N, h, w) -> (N, h*w, h*w) bool
    """
    height, width = classes.shape[1:]
    flat = classes.flatten(1)
    positions = _positions((height, width), classes.device)
    steps = chebyshev_distance((height, width), classes.device)
    start, end = positions[:, :, None].float(), positions[:, None].float()
    longest = max(height, width) - 1
    stays = torch.ones_like(flat[:, :, None] == flat[:, None])
    for k, fraction in enumerate(torch.linspace(0, 1, longest + 1, device=classes.device)):
        if line == 'whole':
            fraction = (k / steps.clamp_min(1)).clamp_max(1)
        rows, columns = (start * (1 - fraction) + end * fraction).round().long()
        sampled = flat[:, rows * width + columns]
        stays &= (sampled == flat[:, :, None]) | (k > steps)
    return stays


def smooth_rows(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Filter (N, L, h*w) along the row-major index, across the ends of rows (published code)."""
    kernel = _gaussian_kernel(values)[None, None]
    smoothed = F.conv1d(values.flatten(0, 1)[:, None], kernel, padding=TAPS // 2)
    return smoothed[:, 0].unflatten(0, values.shape[:2])


def smooth_grid(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Filter (N, L, h*w) over the grid (h, w)."""
    kernel, features = _gaussian_kernel(values), values.flatten(0, 1)[:, None].unflatten(2, grid)
    features = F.conv2d(features, kernel.view(1, 1, -1, 1), padding=(TAPS // 2, 0))
    features = F.conv2d(features, kernel.view(1, 1, 1, -1), padding=(0, TAPS // 2))
    return features.flatten(1).unflatten(0, values.shape[:2])


def _gaussian_kernel(like: Tensor) -> Tensor:
    """-> (TAPS), sum 1"""
    offsets = torch.arange(TAPS, dtype=like.dtype, device=like.device) - TAPS // 2
    kernel = (-offsets.square() / (2 * SIGMA**2)).exp()
    return kernel / kernel.sum()


def _positions(grid: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w) -> (2, h*w) row and column of each patch"""
    return torch.cartesian_prod(*(torch.arange(side, device=device) for side in grid)).T
