import numpy as np
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from mmseg.errors import UserError
from mmseg.registry import TRANSFORMS
from mmseg.structures import UNLABELED, ignore_label
from mmseg.utils import read_image, require_choice


def read_photo(path, *, file=None, max_pixels=None):
    """File -> PIL RGB image, turned as its EXIF says.

    Args:
        path: where it is, or what it is called where `file` holds its bytes.
        file: a binary file object; None to open the path.
        max_pixels: what is larger is refused before it is decoded; None for Pillow's limit.

    Raises:
        UserError: missing, truncated, too large or no photo.
    """

    def convert(image):
        width, height = image.size
        if max_pixels is not None and width * height > max_pixels:
            raise UserError(
                f'the image {path} is {width}x{height}; at most {max_pixels / 1e6:g} megapixels '
                'are read here'
            )
        return to_rgb(image)

    return read_image(path, convert, file)


def photo_size(path):
    """File -> (H, W) of the photo as `read_photo` gives it, from its header alone.

    Raises:
        UserError: missing or no photo.
    """

    def size(image):
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by a quarter
        return image.size if turned else image.size[::-1]

    return read_image(path, size)


def to_rgb(image):
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # Pillow would clip 16 bits, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert('RGB')


def crop_for_prior(photo, size):
    """PIL RGB -> (size, size, 3) uint8: CLIP's view, short side bicubic to `size`, centre crop."""
    photo = resize(photo, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
    return np.asarray(center_crop(photo, size))


@TRANSFORMS.register_module()
class LoadImage:
    """img_path -> img (H, W, 3) uint8 RGB, ori_shape (H, W); view too where the data set asks."""

    def __call__(self, results):
        photo = read_photo(results['img_path'])
        results['img'] = np.asarray(photo)
        results['ori_shape'] = results['img'].shape[:2]
        if results.get('prior_crop_size'):
            results['prior_crop'] = crop_for_prior(photo, results['prior_crop_size'])
        return results


@TRANSFORMS.register_module()
class LoadAnnotations:
    """seg_map_path -> gt_sem_seg (H, W), photo size, 255 ignored; none for no path.

    uint8, or int32 with 65535 ignored where there are more than 255 classes.

    Args:
        suppress_labels: ids of classes whose pixels become unlabelled (-1, int16 in place of
            uint8), 'all', or 'unseen', those that the data set calls so; with either word, a photo
            without a mask is unlabelled everywhere.

    Raises:
        UserError: a mask that is missing, of another size than the photo, not of class indices, or
            with ids that the vocabulary does not have.
    """

    def __init__(self, suppress_labels=()):
        if isinstance(suppress_labels, str):
            require_choice('LoadAnnotations.suppress_labels', suppress_labels, ('all', 'unseen'))
        self.suppress_labels = suppress_labels

    def __call__(self, results):
        named = isinstance(self.suppress_labels, str)
        if results['seg_map_path'] is None:
            return Unlabeled()(results) if named else results
        mask = read_mask(
            results['seg_map_path'],
            results['ori_shape'],
            num_classes=results['num_classes'],
            reduce_zero_label=results['reduce_zero_label'],
        )
        if self.suppress_labels:
            hidden = np.isin(mask, list(self._hidden(results)))
            mask = mask.astype(np.promote_types(mask.dtype, np.int8))
            mask[hidden] = UNLABELED
        results['gt_sem_seg'] = mask
        return results

    def _hidden(self, results):
        if self.suppress_labels == 'unseen':
            return results['unseen']
        if self.suppress_labels == 'all':
            return range(results['num_classes'])
        return self.suppress_labels


@TRANSFORMS.register_module()
class Unlabeled:
    """gt_sem_seg (H, W) int16: every pixel unlabelled (-1); no mask file is read (Q11)."""

    def __call__(self, results):
        results['gt_sem_seg'] = np.full(results['ori_shape'], UNLABELED, np.int16)
        return results


def read_mask(path, shape, *, num_classes, reduce_zero_label):
    """File -> (H, W) labels in 0..C-1 or ignored; see `LoadAnnotations`."""
    image = read_image(path, lambda opened: opened.copy())
    if image.mode not in ('L', 'P', 'I', 'I;16'):
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


def read_gray(path, shape):
    """File -> (H, W) uint8, as large as its photo"""
    values = np.array(read_image(path, lambda image: image.convert('L')))
    _require_shape(values, path, shape)
    return values


def _require_shape(mask, path, shape):
    if mask.shape != tuple(shape):
        raise UserError(
            f'the mask {path} is {mask.shape[1]}x{mask.shape[0]}, its photo {shape[1]}x{shape[0]}'
        )
