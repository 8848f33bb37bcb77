"""Transforms of a data set's pipeline. Each takes a dict of one photo's fields and returns it.

Random transforms draw from `results['rng']`. The data set seeds it by the run's seed and the
sample's position in the stream, so draws do not depend on workers and survive a resume.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from annotated_types import Interval
from PIL import Image
from pydantic import AfterValidator
from torch import Tensor

from mmseg.errors import UserError
from mmseg.registry import TRANSFORMS
from mmseg.structures import UNLABELED, SegDataSample, ignore_label
from mmseg.utils import Count, Fraction, NotNegative, Positive, validated

from .pseudo_labels import CONFIDENCE
from .reading import crop_for_prior, photo_size, read_gray, read_mask, read_photo

Results = dict[str, Any]
Size = tuple[Count, Count]
LABEL_MAPS = ('gt_sem_seg', 'pseudo_sem_seg', 'pseudo_confidence')  # resized and cropped with img


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError('(low, high)')
    return limits


@TRANSFORMS.register_module()
class LoadImage:
    """Load the photo: img_path -> img (h, w, 3) uint8 RGB, ori_shape (H, W) of the file.

    Add `prior_crop` (S, S, 3) uint8 if the data set has a `prior_crop_size` S.

    Args:
        at_least: (long, short) sides in pixels that suffice, see `read_photo`: large JPEGs are
            decoded in less time, to other pixels than those of the published pipeline. By default
            h, w are H, W.
    """

    @validated
    def __init__(self, at_least: Size | None = None) -> None:
        self.at_least = at_least

    def __call__(self, results: Results) -> Results:
        path = results['img_path']
        photo = read_photo(path, at_least=self.at_least)
        results['img'] = np.asarray(photo)
        results['ori_shape'] = photo_size(path) if self.at_least else results['img'].shape[:2]
        if results.get('prior_crop_size'):
            results['prior_crop'] = crop_for_prior(photo, results['prior_crop_size'])
        return results


@TRANSFORMS.register_module()
class LoadAnnotations:
    """Load the mask: seg_map_path -> gt_sem_seg (H, W) as from `read_mask`; none without a path.

    Args:
        suppress_labels: class ids whose pixels become unlabelled (-1, int16 instead of uint8),
            'all' classes, the data set's 'unseen' classes, or the 'ignored' pixels (of a mask made
            by hand for a part of the photo). With a name, a photo without a mask is unlabelled
            everywhere.

    Raises:
        UserError: on a call, see `read_mask`.
    """

    @validated
    def __init__(
        self, suppress_labels: Literal['all', 'unseen', 'ignored'] | tuple[int, ...] = ()
    ) -> None:
        self.suppress_labels = suppress_labels

    def __call__(self, results: Results) -> Results:
        if results['seg_map_path'] is None:
            named = isinstance(self.suppress_labels, str)
            return Unlabeled()(results) if named else results
        number = results['num_classes']
        mask = read_mask(
            results['seg_map_path'],
            results['ori_shape'],
            num_classes=number,
            reduce_zero_label=results.get('reduce_zero_label', False),
        )
        if self.suppress_labels:
            ids: Any = self.suppress_labels
            if isinstance(ids, str):
                ids = dict(
                    all=range(number), unseen=results.get('unseen'), ignored=[ignore_label(number)]
                )[ids]
            suppressed = np.isin(mask, list(ids))
            mask = mask.astype(np.promote_types(mask.dtype, np.int8))
            mask[suppressed] = UNLABELED
        results['gt_sem_seg'] = mask
        return results


@TRANSFORMS.register_module()
class Unlabeled:
    """Mark every pixel as unlabelled: gt_sem_seg (H, W) int16 of -1. Reads no mask (Q11)."""

    def __call__(self, results: Results) -> Results:
        results['gt_sem_seg'] = np.full(results['ori_shape'], UNLABELED, np.int16)
        return results


@TRANSFORMS.register_module()
class LoadPseudoLabels:
    """Load the labels that tools/pseudo_label.py wrote: pseudo_path -> pseudo_sem_seg (H, W).

    Add `pseudo_confidence` (H, W) uint8, 255 for certain, if `x.conf.png` lies beside `x.png`.
    Add nothing without a path.
    """

    def __call__(self, results: Results) -> Results:
        path = results.get('pseudo_path')
        if path is None:
            return results
        shape, number = results['ori_shape'], results['num_classes']
        results['pseudo_sem_seg'] = read_mask(path, shape, num_classes=number)
        confidence = Path(path).with_suffix(CONFIDENCE)
        if confidence.is_file():
            results['pseudo_confidence'] = read_gray(confidence, shape)
        return results


def fit_inside(shape: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """Scale (H, W) to the largest (width, height) inside (long, short), keeping the ratio."""
    height, width = shape
    factor = min(max(scale) / max(shape), min(scale) / min(shape))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


@TRANSFORMS.register_module()
class Resize:
    """Resize img to the largest size inside `scale`, keeping the ratio, by OpenCV's bilinear.

    Args:
        scale: (long, short), upper limits of the long and the short side.
    """

    @validated
    def __init__(self, scale: Size) -> None:
        self.scale = scale

    def __call__(self, results: Results) -> Results:
        size = fit_inside(results['img'].shape[:2], self.scale)
        results['img'] = cv2.resize(results['img'], size, interpolation=cv2.INTER_LINEAR)
        return results


@TRANSFORMS.register_module()
class ResizeShortSide:
    """Resize img to a short side of `size`, by Pillow's bicubic; round both sides to a multiple.

    Args:
        size: pixels of the short side.
        multiple: both sides become multiples of it.
    """

    @validated
    def __init__(self, size: Count, multiple: Count = 1) -> None:
        self.size, self.multiple = size, multiple

    def __call__(self, results: Results) -> Results:
        height, width = results['img'].shape[:2]
        factor = self.size / min(height, width)
        new_width, new_height = (
            max(1, round(side * factor / self.multiple)) * self.multiple for side in (width, height)
        )
        photo = Image.fromarray(results['img'])
        results['img'] = np.asarray(photo.resize((new_width, new_height), Image.Resampling.BICUBIC))
        return results


@TRANSFORMS.register_module()
class RandomResize:
    """Resize img and its label maps to fit inside a random multiple of `scale`.

    Args:
        scale: (long, short), see `Resize`.
        ratio_range: (low, high) of the multiple, drawn uniformly.
    """

    @validated
    def __init__(
        self,
        scale: Size,
        ratio_range: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)],
    ) -> None:
        self.scale, self.ratio_range = scale, ratio_range

    def __call__(self, results: Results) -> Results:
        ratio = results['rng'].uniform(*self.ratio_range)
        long, short = (int(side * ratio) for side in self.scale)
        size = fit_inside(results['img'].shape[:2], (long, short))
        results['img'] = cv2.resize(results['img'], size, interpolation=cv2.INTER_LINEAR)
        for key in set(LABEL_MAPS) & set(results):
            results[key] = cv2.resize(results[key], size, interpolation=cv2.INTER_NEAREST)
        return results


@TRANSFORMS.register_module()
class RandomCrop:
    """Cut a random window of at most `size` x `size` from img and its label maps.

    Draw again, at most ten times, if one class fills more than `cat_max_ratio` of the labelled
    pixels of the window.

    Args:
        size: pixels of a side.
        cat_max_ratio: in 0..1; 1 takes the first window.
        count_unlabeled: count unlabelled pixels (-1) as a class, as the original does (Q12): on a
            photo without labels all draws fail. By default such a window is taken at once.
    """

    @validated
    def __init__(
        self, size: Count, cat_max_ratio: Fraction = 1.0, count_unlabeled: bool = False
    ) -> None:
        self.size, self.cat_max_ratio = size, cat_max_ratio
        self.count_unlabeled = count_unlabeled

    def __call__(self, results: Results) -> Results:
        shape = results['img'].shape[:2]
        for _ in range(11):
            window = self._draw(shape, results['rng'])
            if self.cat_max_ratio >= 1 or self._varied(results, window):
                break
        for key in {'img', *LABEL_MAPS} & set(results):
            if results[key].shape[:2] != shape:
                raise UserError(
                    'RandomCrop after LoadImage(at_least=...) needs a RandomResize first'
                )
            results[key] = results[key][window]
        return results

    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> tuple[slice, ...]:
        starts = [rng.integers(0, max(side - self.size, 0) + 1) for side in shape]
        return tuple(slice(start, start + self.size) for start in starts)

    def _varied(self, results: Results, window: tuple[slice, ...]) -> bool:
        ignore = ignore_label(results['num_classes'])
        skipped = (ignore,) if self.count_unlabeled else (ignore, UNLABELED)
        labels, counts = np.unique(results['gt_sem_seg'][window], return_counts=True)
        counts = counts[~np.isin(labels, skipped)]
        if not self.count_unlabeled and not len(counts):
            return True
        return len(counts) > 1 and bool(counts.max() / counts.sum() < self.cat_max_ratio)


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror img and its label maps left to right with probability `prob`."""

    @validated
    def __init__(self, prob: Fraction = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: Results) -> Results:
        if results['rng'].random() < self.prob:
            for key in {'img', *LABEL_MAPS} & set(results):
                results[key] = results[key][:, ::-1]
        return results


FactorRange = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)]


@TRANSFORMS.register_module()
class PhotoMetricDistortion:
    """Change brightness, contrast, saturation and hue of img, each with probability 1/2.

    Source: SSD (Liu et al., ECCV 2016).

    Args:
        brightness: largest change, in grey levels.
        contrast, saturation: ranges of the factors. Contrast comes before or after the colours.
        hue: largest change, in OpenCV's half degrees.
    """

    @validated
    def __init__(
        self,
        brightness: Annotated[float, Interval(ge=0, le=255)] = 32,
        contrast: FactorRange = (0.5, 1.5),
        saturation: FactorRange = (0.5, 1.5),
        hue: Annotated[int, Interval(ge=0, le=180)] = 18,
    ) -> None:
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue = saturation, hue

    def __call__(self, results: Results) -> Results:
        rng, image = results['rng'], results['img']
        if rng.random() < 0.5:
            image = _clip(image + rng.uniform(-1, 1) * self.brightness)
        contrast_first = rng.random() < 0.5
        if contrast_first:
            image = self._change_contrast(image, rng)
        image = self._change_colours(image, rng)
        if not contrast_first:
            image = self._change_contrast(image, rng)
        results['img'] = image
        return results

    def _change_contrast(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _clip(image * rng.uniform(*self.contrast)) if rng.random() < 0.5 else image

    def _change_colours(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
        factor = rng.uniform(*self.saturation) if rng.random() < 0.5 else 1.0
        shift = rng.integers(-self.hue, self.hue + 1) if rng.random() < 0.5 else 0
        hsv[..., 1] = _clip(hsv[..., 1] * factor)
        hsv[..., 0] = (hsv[..., 0].astype(int) + shift) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _clip(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class PackSegInputs:
    """Pack the fields into {'inputs': (3, H, W) uint8 RGB, 'data_samples': SegDataSample}."""

    META = ('img_path', 'seg_map_path', 'ori_shape', 'caption', 'named')

    def __call__(self, results: Results) -> Results:
        meta = {key: results[key] for key in self.META if key in results}
        sample = SegDataSample(metainfo=meta)
        for key in set(LABEL_MAPS) & set(results):
            setattr(sample, key, torch.from_numpy(np.ascontiguousarray(results[key])))
        if 'prior_crop' in results:
            sample.prior_crop = _to_chw(results['prior_crop'])
        return dict(inputs=_to_chw(results['img']), data_samples=sample)


def _to_chw(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
