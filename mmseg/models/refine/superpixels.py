"""Majority vote in superpixels: labels that end where the photo's regions do."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmseg.errors import require_packages
from mmseg.registry import MODELS
from mmseg.utils import Count, validated


@MODELS.register_module()
class Superpixels(nn.Module):
    """Give each superpixel of the photo the label that most of its pixels have.

    Args:
        segments: about how many superpixels a photo has (felzenszwalb: pixels / segments is their
            least size).
        method: of scikit-image.

    Raises:
        UserError: an unknown method, no segments, or scikit-image is not installed.
    """

    acts_on = 'labels'

    @validated
    def __init__(
        self, segments: Count = 400, *, method: Literal['slic', 'felzenszwalb'] = 'slic'
    ) -> None:
        super().__init__()
        self.segments, self.method = segments, method
        require_packages('Superpixels', 'skimage.segmentation', extra='superpixels')

    def forward(self, labels: Tensor, image: Tensor) -> Tensor:
        """Vote: (H, W) labels, (3, H, W) RGB in 0..255 -> (H, W) of the same type"""
        from skimage import segmentation

        photo = image.clamp(0, 255).permute(1, 2, 0).cpu().double().numpy() / 255
        if self.method == 'slic':
            segments = segmentation.slic(photo, self.segments, start_label=0)
        else:
            least = max(1, labels.numel() // self.segments)
            segments = segmentation.felzenszwalb(photo, min_size=least)
        return majority(labels, torch.from_numpy(segments).to(labels.device))


def majority(labels: Tensor, segments: Tensor) -> Tensor:
    """Find the commonest label of each segment, the lowest of equals: (H, W), (H, W) -> (H, W)"""
    classes = int(labels.max()) + 1
    pairs = segments.long() * classes + labels.long()
    counts = pairs.flatten().bincount(minlength=(int(segments.max()) + 1) * classes)
    return counts.view(-1, classes).argmax(dim=1)[segments.long()].to(labels.dtype)
