"""Read photos and masks from files."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mmseg.errors import UserError
from mmseg.structures import ignore_label
from mmseg.utils import read_image, reason_of
from mmseg.utils.images import SUFFIXES

MASK_MODES = ('L', 'P', 'I', 'I;16')  # Pillow's modes with one integer per pixel


def read_photo(
    path: str | Path,
    *,
    file: BinaryIO | None = None,
    max_pixels: int | None = None,
    at_least: tuple[int, int] | None = None,
) -> Image.Image:
    """Read a photo as RGB and apply its EXIF orientation.

    Args:
        path: the file, or its name in messages if `file` holds the bytes.
        file: a binary file object; None opens `path`.
        max_pixels: refuse larger photos before decoding; None keeps Pillow's limit.
        at_least: (long, short) sides in pixels that suffice. A JPEG is decoded at a half, a quarter
            or an eighth if it keeps them (libjpeg's scaled inverse DCT). None decodes every pixel.

    Raises:
        UserError: the file is missing, truncated, too large or not a photo.
    """

    def convert(image: Image.Image) -> Image.Image:
        width, height = image.size
        if max_pixels is not None and width * height > max_pixels:
            raise UserError(
                f'the image {path} is {width}x{height}; at most {max_pixels / 1e6:g} megapixels '
                'are read here'
            )
        if at_least is not None:
            long, short = sorted(at_least, reverse=True)
            image.draft(None, (long, short) if width >= height else (short, long))
        return to_rgb(image)

    return read_image(path, convert, file)


def photo_size(path: str | Path) -> tuple[int, int]:
    """Return (H, W) of the photo that `read_photo` returns, without decoding its pixels.

    Raises:
        UserError: the file is missing or not a photo.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        quarter_turn = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return image.size if quarter_turn else image.size[::-1]

    return read_image(path, size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow image to 8-bit RGB and apply its EXIF orientation."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # Pillow clips 16 bits to 8; scale them instead
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert('RGB')


def crop_for_prior(photo: Image.Image, size: int) -> np.ndarray:
    """Cut CLIP's centre crop: PIL RGB -> (size, size, 3) uint8.

    The short side is resized to `size` by Pillow's bicubic filter, then the centre is cut out.
    Sizes are rounded as in torchvision's `resize` and `center_crop`, which CLIP uses.
    """
    short = min(photo.size)
    width, height = (size if side == short else int(size * side / short) for side in photo.size)
    resized = photo.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (int(round((side - size) / 2)) for side in (width, height))
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def read_mask(
    path: str | Path, shape: tuple[int, int], *, num_classes: int, reduce_zero_label: bool = False
) -> np.ndarray:
    """Read a mask: file -> (H, W) labels in 0..C-1 or `ignore_label`.

    Labels are uint8, or int32 for more than 255 classes.

    Args:
        shape: (H, W) of the photo.
        reduce_zero_label: id 0 is ignored, id 1 is class 0.

    Raises:
        UserError: the mask is missing, has another size than the photo, does not hold class
            indices, or holds ids that the vocabulary does not have.
    """
    image = read_image(path, lambda opened: opened.copy())
    if image.mode not in MASK_MODES:
        raise UserError(
            f'the mask {path} has {image.mode} pixels; a mask holds one class index a pixel'
        )
    mask = np.asarray(image).astype(np.int32)
    _require_shape(mask, path, shape)
    ignore = ignore_label(num_classes)
    if reduce_zero_label:
        mask = np.where((mask == 0) | (mask == ignore), ignore, mask - 1)
    unknown = ((mask >= num_classes) | (mask < 0)) & (mask != ignore)
    if unknown.any():
        ids = np.unique(mask[unknown]) + reduce_zero_label
        raise UserError(
            f'the mask {path} holds the ids {", ".join(map(str, ids[:5]))}, but there are '
            f'{num_classes} classes; is it of another vocabulary?'
        )
    return mask.astype(np.uint8) if ignore == 255 else mask


def read_gray(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a grey image as large as its photo: file -> (H, W) uint8."""
    values = np.array(read_image(path, lambda image: image.convert('L')))
    _require_shape(values, path, shape)
    return values


def _require_shape(mask: np.ndarray, path: str | Path, shape: tuple[int, int]) -> None:
    if mask.shape != tuple(shape):
        raise UserError(
            f'the mask {path} is {mask.shape[1]}x{mask.shape[0]}, its photo {shape[1]}x{shape[0]}'
        )


def read_list(path: str | Path) -> list[str]:
    """Read the names of a split list, one a line.

    Raises:
        UserError: the file is missing, or no text.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
        return [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'the split list {path} cannot be read ({reason_of(error)}); prepare the data set as '
            'docs/dataset_prepare.md says, or name its folder (data_root)'
        ) from error


def list_photos(root: str | Path) -> list[Path]:
    """List the photos of a folder and its subfolders, sorted and without hidden files.

    Args:
        root: a folder, or one photo.

    Raises:
        UserError: the folder does not exist or holds no photo.
    """
    root = Path(root)
    paths = [root] if root.is_file() else sorted(root.rglob('*'))
    photos = [
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()
    ]
    if not photos:
        problem = 'no photo in' if root.exists() else 'no such photo or folder:'
        formats = ', '.join(sorted(SUFFIXES))
        raise UserError(f'{problem} {root}; name a folder of photos, or one photo ({formats})')
    return photos
