"""Random transforms for training. Each draws from `results['rng']`, which the data set seeds by the
run's seed and the sample's place in the stream: neither workers nor a resumed run change a draw."""

import cv2
import numpy as np

from mmseg.registry import TRANSFORMS
from mmseg.structures import UNLABELED, ignore_label
from mmseg.utils import require_number, require_pair

from .resize import fit_inside

MAPS = ('gt_sem_seg', 'pseudo_sem_seg', 'pseudo_confidence')  # what moves with img


@TRANSFORMS.register_module()
class RandomResize:
    """img and its maps -> all as large as fits into a random multiple of `scale`.

    Args:
        scale: (long, short), see `Resize`.
        ratio_range: the multiple is drawn evenly from it.
    """

    def __init__(self, scale, ratio_range):
        require_pair('RandomResize.scale', scale, least=1, whole=True)
        require_pair('RandomResize.ratio_range', ratio_range, above=0, ordered=True)
        self.scale, self.ratio_range = scale, ratio_range

    def __call__(self, results):
        ratio = results['rng'].uniform(*self.ratio_range)
        scale = tuple(int(side * ratio) for side in self.scale)
        size = fit_inside(results['img'].shape[:2], scale)
        results['img'] = cv2.resize(results['img'], size, interpolation=cv2.INTER_LINEAR)
        for key in set(MAPS) & set(results):
            results[key] = cv2.resize(results[key], size, interpolation=cv2.INTER_NEAREST)
        return results


@TRANSFORMS.register_module()
class RandomCrop:
    """img and its maps -> a random window of at most `size` x `size`.

    It is drawn again, ten times at most, while one class fills more than `cat_max_ratio` of what is
    labelled in it.

    Args:
        size: pixels of a side.
        cat_max_ratio: in 0..1; 1 takes the first window.
        count_unlabeled: unlabelled pixels (-1) count as a class (as published, Q12: where nothing
            is labelled, all draws are then in vain). By default such a window is taken at once.
    """

    def __init__(self, size, cat_max_ratio=1.0, count_unlabeled=False):
        require_number('RandomCrop.size', size, 1, whole=True)
        require_number('RandomCrop.cat_max_ratio', cat_max_ratio, 0, 1)
        self.size, self.cat_max_ratio = size, cat_max_ratio
        self.count_unlabeled = count_unlabeled

    def __call__(self, results):
        for _ in range(11):
            window = self._draw(results['img'].shape[:2], results['rng'])
            if self.cat_max_ratio >= 1 or self._varied(results, window):
                break
        for key in {'img', *MAPS} & set(results):
            results[key] = results[key][window]
        return results

    def _draw(self, shape, rng):
        starts = [rng.integers(0, max(side - self.size, 0) + 1) for side in shape]
        return tuple(slice(start, start + self.size) for start in starts)

    def _varied(self, results, window):
        ignore = ignore_label(results['num_classes'])
        skip = (ignore,) if self.count_unlabeled else (ignore, UNLABELED)
        labels, counts = np.unique(results['gt_sem_seg'][window], return_counts=True)
        counts = counts[~np.isin(labels, skip)]
        if not self.count_unlabeled and not len(counts):
            return True
        return len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio


@TRANSFORMS.register_module()
class RandomFlip:
    """img and its maps (where there are some) -> mirrored left to right with probability `prob`."""

    def __init__(self, prob=0.5):
        require_number('RandomFlip.prob', prob, 0, 1)
        self.prob = prob

    def __call__(self, results):
        if results['rng'].random() < self.prob:
            for key in {'img', *MAPS} & set(results):
                results[key] = results[key][:, ::-1]
        return results


@TRANSFORMS.register_module()
class PhotoMetricDistortion:
    """img -> brightness, contrast, saturation and hue changed, each with probability 1/2 (SSD).

    Args:
        brightness: at most added or taken, in grey levels.
        contrast, saturation: ranges of the factors; contrast comes before or after the colours.
        hue: at most turned, in OpenCV's half degrees.
    """

    def __init__(self, brightness=32, contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=18):
        require_number('PhotoMetricDistortion.brightness', brightness, 0, 255)
        require_pair('PhotoMetricDistortion.contrast', contrast, least=0, ordered=True)
        require_pair('PhotoMetricDistortion.saturation', saturation, least=0, ordered=True)
        require_number('PhotoMetricDistortion.hue', hue, 0, 180, whole=True)
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue = saturation, hue

    def __call__(self, results):
        rng, image = results['rng'], results['img']

        def sometimes(change, value):
            return change(value) if rng.random() < 0.5 else value

        image = sometimes(lambda x: _clip(x + rng.uniform(-1, 1) * self.brightness), image)
        contrast_first = rng.random() < 0.5
        if contrast_first:
            image = sometimes(lambda x: _clip(x * rng.uniform(*self.contrast)), image)
        hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
        factor = sometimes(lambda _: rng.uniform(*self.saturation), 1.0)
        turn = sometimes(lambda _: rng.integers(-self.hue, self.hue + 1), 0)
        hsv[..., 1] = _clip(hsv[..., 1] * factor)
        hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if not contrast_first:
            image = sometimes(lambda x: _clip(x * rng.uniform(*self.contrast)), image)
        results['img'] = image
        return results


def _clip(values):
    return np.clip(values, 0, 255).astype(np.uint8)
