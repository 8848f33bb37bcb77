"""Majority vote in superpixels: labels that end where the photo's regions do."""

import importlib

import torch
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.registry import MODELS
from mmseg.utils import require_choice, require_number

METHODS = ('slic', 'felzenszwalb')


@MODELS.register_module()
class Superpixels(nn.Module):
    """Every superpixel of the photo takes the label that most of its pixels have.

    Args:
        segments: about how many there are in a photo (felzenszwalb: of what least size they are,
            pixels / segments).
        method: of scikit-image's segmentation: 'slic' or 'felzenszwalb'.
        compactness: of SLIC; more makes them squarer.

    Raises:
        UserError: an unknown method, no segments, or scikit-image is not installed.
    """

    acts_on = 'labels'

    def __init__(self, segments=400, *, method='slic', compactness=10.0):
        super().__init__()
        require_choice('Superpixels.method', method, METHODS)
        require_number('Superpixels.segments', segments, 1, whole=True)
        self.segments, self.method, self.compactness = segments, method, compactness
        _segmentation()

    def forward(self, labels, image) -> Tensor:
        """(H, W), (3, H, W) RGB in 0..255 -> (H, W) of the same type"""
        photo = image.clamp(0, 255).permute(1, 2, 0).cpu().double().numpy() / 255
        if self.method == 'slic':
            found = _segmentation().slic(
                photo, self.segments, compactness=self.compactness, start_label=0
            )
        else:
            least = max(1, labels.numel() // self.segments)
            found = _segmentation().felzenszwalb(photo, min_size=least)
        return majority(labels, torch.from_numpy(found).to(labels.device))


def majority(labels, segments) -> Tensor:
    """(H, W), (H, W) ids from 0 on -> (H, W): the commonest label of each; of equals the lowest"""
    classes = int(labels.max()) + 1
    pairs = segments.long() * classes + labels.long()
    counts = pairs.flatten().bincount(minlength=(int(segments.max()) + 1) * classes)
    return counts.view(-1, classes).argmax(dim=1)[segments.long()].to(labels.dtype)


def _segmentation():
    try:
        return importlib.import_module('skimage.segmentation')
    except ImportError as error:
        raise UserError('superpixels need scikit-image: pip install scikit-image') from error
