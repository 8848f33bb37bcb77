"""Low-resolution class scores -> a label map, without ever holding all scores at full size."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 16       # rows of the photo at a time: 59 classes of a 500-wide slab fit a core's cache


def upsample_argmax(scores, size, *, step=None) -> Tensor:
    """(C, h, w) -> (H, W) labels: bilinear (align_corners=False) to `size`, then the best class.

    Args:
        scores: class scores of one photo.
        size: (H, W) of the photo.
        step: grid cells per photo pixel, down and across; default (h / H, w / W), the whole grid over
            the whole photo. A grid that was padded covers more than the photo: a smaller step.

    Returns:
        uint8 for up to 256 classes, int16 beyond.
    """
    (h, w), (height, width) = scores.shape[1:], size
    step_down, step_across = step or (h / height, w / width)
    left, right, across = _taps(width, w, step_across, scores)
    above, below, down = _taps(height, h, step_down, scores)
    wide = torch.lerp(scores[:, :, left], scores[:, :, right], across)           # (C, h, W)
    out = torch.empty(size, dtype=torch.uint8 if len(scores) <= 256 else torch.int16,
                      device=scores.device)
    for rows in torch.arange(height, device=scores.device).split(ROWS):
        slab = torch.lerp(wide[:, above[rows]], wide[:, below[rows]], down[rows, None])
        out[rows[0]:rows[-1] + 1] = slab.argmax(dim=0)
    return out


def _taps(size, cells, step, like):
    """Where each of `size` pixels reads in `cells`: two indices and the second one's share."""
    at = (torch.arange(size, device=like.device, dtype=torch.float64) + 0.5) * step - 0.5
    at = at.clamp_(0, cells - 1)
    first = at.floor().long()
    return first, (first + 1).clamp_max(cells - 1), (at - first).to(like.dtype)


def labels_at_photo_size(scores, photo_size, *, input_size, stride, twice=False) -> Tensor:
    """(C, h, w) -> (H, W) labels of the photo.

    Args:
        input_size: (H, W) of the network's input before any padding.
        stride: pixels of the input per grid cell.
        twice: as the original (Q15): stretch the grid over the input as if nothing had been padded,
            resize to the input's size, and from there to the photo's.
    """
    if twice:
        scores = F.interpolate(scores[None], size=input_size, mode='bilinear', align_corners=False)[0]
        return upsample_argmax(scores, photo_size)
    step = tuple(i / (stride * p) for i, p in zip(input_size, photo_size))
    return upsample_argmax(scores, photo_size, step=step)
