"""What Python passes as an image: a path, a PIL image, an array or a tensor."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmseg.datasets.reading import read_photo, to_rgb
from mmseg.errors import UserError


def as_photo(image):
    """A path, PIL image, (H, W, 3) uint8 array or (3, H, W) uint8 tensor -> PIL RGB image.

    Raises:
        UserError: none of these, or unreadable.
    """
    if isinstance(image, (str, Path)):
        return read_photo(image)
    if isinstance(image, Image.Image) and all(image.size):
        return _of_pil(image)
    if torch.is_tensor(image):
        image = image.permute(1, 2, 0).cpu().numpy() if image.ndim == 3 else image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
        if image.shape[2] == 3 and image.size:
            return Image.fromarray(np.ascontiguousarray(image))
    shape, kind = tuple(getattr(image, 'shape', ())), getattr(image, 'dtype', '')
    raise UserError(
        'an image is a path, a PIL image, a (H, W, 3) uint8 RGB array or a (3, H, W) uint8 '
        f'tensor, not {type(image).__name__} {kind} {shape}'
    )


def _of_pil(image):
    """PIL image -> as `read_photo` gives a file: turned as its EXIF says, 16 bits scaled to 8"""
    try:
        return to_rgb(image)
    except (OSError, SyntaxError, ValueError) as error:
        name = getattr(image, 'filename', '') or 'that was passed'
        raise UserError(f'the image {name} cannot be read: {error}') from error
