"""Open image files of photo formats, whatever their suffix."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

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
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f'no image of {", ".join(FORMATS)}' if unknown else reason_of(error)
        raise UserError(f'the image {path} cannot be read: {reason}') from error
