"""The sample that data sets, models and evaluators exchange."""

import torch
from mmengine.structures import BaseDataElement

UNLABELED = -1


def ignore_label(num_classes: int) -> int:
    """Return the label that no loss and no metric counts: 255, or 65535 if 255 is a class."""
    return 255 if num_classes <= 255 else 65535


class SegDataSample(BaseDataElement):
    """Labels, scores and meta data of one photo.

    Fields, each of them optional:
        gt_sem_seg: (H, W) labels, with `ignore_label`. At test time, of the photo's size.
        pseudo_sem_seg: (H, W) labels of a teacher, `ignore_label` for none.
        pseudo_confidence: (H, W) uint8 confidence of the teacher, 255 for 1.
        pred_sem_seg: (H, W) uint8 or int16 labels, of the photo's size.
        seg_logits: (C, h, w) scores at the network's resolution.
        prior_crop: (3, S, S) uint8, CLIP's centre crop of the whole photo.
    Meta: `img_path`, `seg_map_path`, `ori_shape` (H, W) of the photo, `caption` if it has one,
        and `named`, what the caption names.
    """

    def pin_memory(self) -> 'SegDataSample':
        """Copy the sample, with tensors in pinned memory. Data loaders call this."""
        new = self.clone()
        for name, value in self.items():
            if torch.is_tensor(value):
                new.set_data({name: value.pin_memory()})
        return new
