import torch
from mmengine.structures import BaseDataElement

UNLABELED = -1


def ignore_label(num_classes):
    """The label that is neither learned nor judged: 255, or 65535 where 255 is a class."""
    return 255 if num_classes <= 255 else 65535


class SegDataSample(BaseDataElement):
    """What is known of one photo besides its pixels.

    Fields, each only where it exists:
        gt_sem_seg: (H, W) labels, `ignore_label` ignored; photo size at test.
        pseudo_sem_seg: (H, W) labels of a teacher, `ignore_label` for none.
        pseudo_confidence: (H, W) uint8, how sure it was: 255 for certain.
        pred_sem_seg: (H, W) uint8 or int16 labels at photo size.
        seg_logits: (C, h, w) scores at the network's resolution.
        view: (3, 224, 224) uint8, CLIP's centre crop of the whole photo.
    Meta: `img_path`, `seg_map_path`, `ori_shape` (H, W) of the photo, `caption` where it has one.
    """

    def pin_memory(self):
        """-> a copy whose tensors are in pinned memory, which data loaders ask for"""
        new = self.clone()
        for name, value in self.items():
            if torch.is_tensor(value):
                new.set_data({name: value.pin_memory()})
        return new
