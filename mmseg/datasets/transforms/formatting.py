import numpy as np
import torch

from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

from .augment import MAPS


@TRANSFORMS.register_module()
class PackSegInputs:
    """results -> {'inputs': (3, H, W) uint8 RGB, 'data_samples': SegDataSample}."""

    META = ('img_path', 'seg_map_path', 'ori_shape', 'caption')

    def __call__(self, results):
        known = {key: results[key] for key in self.META if key in results}
        sample = SegDataSample(metainfo=known)
        for key in MAPS:
            if key in results:
                setattr(sample, key, torch.from_numpy(np.ascontiguousarray(results[key])))
        if 'prior_crop' in results:
            sample.prior_crop = _to_chw(results['prior_crop'])
        return dict(inputs=_to_chw(results['img']), data_samples=sample)


def _to_chw(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
