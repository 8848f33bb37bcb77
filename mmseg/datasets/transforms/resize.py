import cv2
import numpy as np
from PIL import Image

from mmseg.registry import TRANSFORMS
from mmseg.utils import require_number, require_pair


def fit_inside(shape, scale):
    """(H, W), (long, short) -> (width, height) as large as fits, keeping the ratio."""
    height, width = shape
    factor = min(max(scale) / max(shape), min(scale) / min(shape))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


@TRANSFORMS.register_module()
class Resize:
    """img -> img as large as fits into `scale`, keeping the ratio, by OpenCV's bilinear.

    Args:
        scale: (long, short), the most that the long and the short side may be.
    """

    def __init__(self, scale):
        require_pair('Resize.scale', scale, least=1, whole=True)
        self.scale = scale

    def __call__(self, results):
        size = fit_inside(results['img'].shape[:2], self.scale)
        results['img'] = cv2.resize(results['img'], size, interpolation=cv2.INTER_LINEAR)
        return results


@TRANSFORMS.register_module()
class ResizeShortSide:
    """img -> img with this short side, both sides rounded to a multiple, by Pillow's bicubic.

    Args:
        size: pixels of the short side.
        multiple: what both sides are rounded to.
    """

    def __init__(self, size, multiple=1):
        require_number('ResizeShortSide.size', size, 1, whole=True)
        require_number('ResizeShortSide.multiple', multiple, 1, whole=True)
        self.size, self.multiple = size, multiple

    def __call__(self, results):
        height, width = results['img'].shape[:2]
        factor = self.size / min(height, width)
        new = tuple(
            max(1, round(side * factor / self.multiple)) * self.multiple for side in (width, height)
        )
        resized = Image.fromarray(results['img']).resize(new, Image.Resampling.BICUBIC)
        results['img'] = np.asarray(resized)
        return results
