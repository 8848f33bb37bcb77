"""Open image files of photo formats, whatever their suffix, and make images of labels."""

import base64
import io
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmseg.errors import UserError

from .files import reason_of

# Not Pillow's other formats: opening EPS or PDF starts Ghostscript.
T = TypeVar('T')
FORMATS = ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF']
SUFFIXES = {'.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif'}
try:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS, SUFFIXES = [*FORMATS, 'HEIF'], SUFFIXES | {'.heic', '.heif'}
except ImportError:  # an option: pip install pillow-heif
    pass


def read_image(
    path: str | Path, convert: Callable[[Image.Image], T], file: BinaryIO | None = None
) -> T:
    """Open an image and return `convert(image)`, which is called while the file is open.

    Args:
        path: the file, or its name for messages if `file` holds its bytes.
        convert: calls Pillow only. Its errors are reported as damage of the file.

    Raises:
        UserError: missing, damaged, too large, or of another format than FORMATS.
    """
    try:
        with Image.open(file or path, formats=FORMATS) as image:
            return convert(image)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f'no such image: {path}') from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UserError(
            f'the image {path} has more than {most:.0f} megapixels; shrink it, or cut it into tiles'
        ) from error
    except Exception as error:  # Pillow's errors about damaged files have no common type
        empty = file is None and os.path.isfile(path) and not os.path.getsize(path)
        reason = 'the file is empty' if empty else _fault(error)
        raise UserError(f'the image {path} cannot be read: {reason}') from error


def _fault(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f'no image of {", ".join(FORMATS)}'
    if getattr(error, 'errno', None) or isinstance(error, MemoryError):
        return reason_of(error)
    return f'it is damaged or cut off ({reason_of(error)})'


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Encode an image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def data_url(image: Image.Image, image_format: str, **options: Any) -> str:
    """Encode an image as 'data:image/...;base64,...'."""
    data = base64.b64encode(encoded(image, image_format, **options)).decode()
    return f'data:image/{image_format};base64,{data}'


# How a PNG of labels or of confidence is compressed: as runs, in half the default's time.
LABEL_PNG: dict[str, Any] = dict(compress_type=zlib.Z_RLE)


def label_image(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    """Make a PIL image of (H, W) labels, with a palette, or of 16 bits unless they are uint8.

    A viewer shows label i as palette[i], and others, such as 255, as white.
    """
    if labels.dtype != np.uint8:
        return Image.fromarray(labels.astype(np.uint16))
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    image = Image.fromarray(labels)
    image.putpalette(colours.tobytes())
    return image
