"""Common corruptions of photos (Hendrycks and Dietterich, ICLR 2019), by imagecorruptions."""

from typing import Any, Literal

import numpy as np
from PIL import Image

from mmseg.errors import UserError, require_packages
from mmseg.registry import TRANSFORMS
from mmseg.utils import validated

from .reading import crop_for_prior

GROUPS = dict(
    noise=('gaussian_noise', 'shot_noise', 'impulse_noise'),
    blur=('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    weather=('snow', 'frost', 'fog', 'brightness'),
    digital=('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
)
CORRUPTIONS = tuple(name for names in GROUPS.values() for name in names)


@TRANSFORMS.register_module()
class Corrupt:
    """Corrupt the photo: img (H, W, 3) uint8 RGB, and its `prior_crop` where there is one.

    Args:
        name: of CORRUPTIONS.
        severity: 1 to 5.

    Raises:
        UserError: an unknown name, or imagecorruptions is not installed.
    """

    @validated
    def __init__(self, name: str, severity: Literal[1, 2, 3, 4, 5]) -> None:
        if name not in CORRUPTIONS:
            raise UserError(f'no corruption is named {name!r}; known: {", ".join(CORRUPTIONS)}')
        require_packages('Corrupt', 'imagecorruptions', extra='corruptions')
        import imagecorruptions

        self.name, self.severity, self.corrupt = name, severity, imagecorruptions.corrupt

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        state = np.random.get_state()  # the package draws from the global generator
        np.random.seed(results['rng'].integers(2**32))
        try:
            img = self.corrupt(results['img'], self.severity, self.name)
        finally:
            np.random.set_state(state)
        results['img'] = img
        if 'prior_crop' in results:
            size = len(results['prior_crop'])
            results['prior_crop'] = crop_for_prior(Image.fromarray(img), size)
        return results
