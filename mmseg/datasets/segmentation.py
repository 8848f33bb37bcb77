"""Data sets laid out as a folder of photos, a folder of index masks and a split list."""

from collections import Counter
from pathlib import Path

from mmseg.errors import UserError
from mmseg.registry import DATASETS
from mmseg.utils import path_below, require_choice
from mmseg.vocabularies import load_vocabulary

from .base import PhotoDataset


@DATASETS.register_module()
class SegDataset(PhotoDataset):
    """Photos with masks whose values are class ids, named by a split list.

    Args:
        img_dir, ann_dir: folders of photos and of masks; ann_dir None where there are no masks.
        split: text file with one name without suffix a line.
        img_suffix, seg_map_suffix: what follows the name.
        reduce_zero_label: id 0 is 'unlabelled' and ids start at 1 (Context-59, VOC-20).
        kwargs: see `PhotoDataset`.

    Raises:
        UserError: a missing list or folder, an empty list, a name listed twice, or listed files
            that do not exist.
    """

    def __init__(
        self,
        vocabulary,
        data_root,
        *,
        img_dir,
        ann_dir,
        split,
        img_suffix='.jpg',
        seg_map_suffix='.png',
        reduce_zero_label=False,
        **kwargs,
    ):
        require_choice('reduce_zero_label', reduce_zero_label, (True, False))
        self.img_dir, self.ann_dir, self.split = img_dir, ann_dir, split
        self.img_suffix, self.seg_map_suffix = img_suffix, seg_map_suffix
        self.reduce_zero_label = reduce_zero_label
        super().__init__(vocabulary, data_root, **kwargs)

    @property
    def photo_root(self):
        return Path(self.data_root, self.img_dir)

    def load_data_list(self):
        """-> one `PhotoDataset.row` a photo"""
        root = Path(self.data_root)
        split, rows = root / self.split, []
        for name in _read_split(split):
            mask = None
            if self.ann_dir is not None:
                mask = path_below(root / self.ann_dir, f'{name}{self.seg_map_suffix}', split)
            photo = path_below(root / self.img_dir, f'{name}{self.img_suffix}', split)
            rows.append(self.row(photo, mask, reduce_zero_label=self.reduce_zero_label))
        _require_files(rows, split)
        return rows


def _read_split(path):
    try:
        names = path.read_text(encoding='utf-8').split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'the split list {path} cannot be read; prepare the data set as the '
            'README says, or set data_root'
        ) from error
    if not names:
        raise UserError(f'the split list {path} is empty')
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise UserError(
            f'the split list {path} names twice: {", ".join(double[:5])}; such photos would count '
            'twice: name each once'
        )
    return names


def _require_files(rows, split, most=10):
    paths = (row[key] for row in rows for key in ('img_path', 'seg_map_path'))
    absent = [path for path in paths if path is not None and not Path(path).is_file()]
    if absent:
        more = f' and {len(absent) - most} more' if len(absent) > most else ''
        raise UserError(
            f'{split} names {len(absent)} files that do not exist: {", ".join(absent[:most])}{more}'
        )


@DATASETS.register_module()
class PascalContextDataset59(SegDataset):
    """Pascal Context's 59 classes; everything else in the photo is ignored."""

    def __init__(
        self,
        vocabulary='pascal_context_59',
        data_root='data/VOCdevkit/VOC2010',
        *,
        img_dir='JPEGImages',
        ann_dir='SegmentationClassContext',
        split='ImageSets/SegmentationContext/val.txt',
        reduce_zero_label=True,
        **kwargs,
    ):
        super().__init__(
            vocabulary,
            data_root,
            img_dir=img_dir,
            ann_dir=ann_dir,
            split=split,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )


@DATASETS.register_module()
class PascalContextDataset(PascalContextDataset59):
    """Pascal Context's 59 classes and background as the 60th, at id 0."""

    def __init__(self, vocabulary='pascal_context_60', *args, reduce_zero_label=False, **kwargs):
        super().__init__(vocabulary, *args, reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class ADE20KDataset(SegDataset):
    """ADE20K's scene parsing, 150 classes; as `tools/convert_datasets/ade20k.py` leaves it."""

    def __init__(self, vocabulary='ade20k', data_root='data/ade/ADEChallengeData2016', **options):
        usual = dict(img_dir='images', ann_dir='annotations', split='ImageSets/val.txt')
        usual |= dict(reduce_zero_label=True)
        super().__init__(vocabulary, data_root, **(usual | options))


@DATASETS.register_module()
class COCOStuffDataset(SegDataset):
    """COCO-Stuff 164k, 171 classes; as `tools/convert_datasets/coco_stuff164k.py` leaves it."""

    def __init__(self, vocabulary='coco_stuff_171', data_root='data/coco_stuff164k', **options):
        usual = dict(img_dir='images', ann_dir='annotations', split='ImageSets/val.txt')
        usual |= dict(seg_map_suffix='_labelTrainIds.png')
        super().__init__(vocabulary, data_root, **(usual | options))


@DATASETS.register_module()
class COCOObjectDataset(COCOStuffDataset):
    """COCO's 80 things, all else background; as `tools/convert_datasets/coco_object.py` has it."""

    def __init__(self, vocabulary='coco_object_81', data_root='data/coco_stuff164k', **options):
        usual = dict(seg_map_suffix='_objectLabels.png')
        super().__init__(vocabulary, data_root, **(usual | options))


@DATASETS.register_module()
class CityscapesDataset(SegDataset):
    """Cityscapes, 19 classes; as `tools/convert_datasets/cityscapes.py` leaves it."""

    def __init__(self, vocabulary='cityscapes', data_root='data/cityscapes', **options):
        usual = dict(img_dir='leftImg8bit', ann_dir='gtFine', split='ImageSets/val.txt')
        usual |= dict(img_suffix='_leftImg8bit.png', seg_map_suffix='_gtFine_labelTrainIds.png')
        super().__init__(vocabulary, data_root, **(usual | options))


@DATASETS.register_module()
class PascalVOCDataset(SegDataset):
    """PASCAL VOC 2012: 20 classes without background ('voc_20'), or 21 with it ('voc_21')."""

    def __init__(
        self,
        vocabulary='voc_20',
        data_root='data/VOCdevkit/VOC2012',
        *,
        img_dir='JPEGImages',
        ann_dir='SegmentationClass',
        split='ImageSets/Segmentation/val.txt',
        reduce_zero_label=None,
        **kwargs,
    ):
        if reduce_zero_label is None:
            reduce_zero_label = load_vocabulary(vocabulary).labels[0] != 'background'
        super().__init__(
            vocabulary,
            data_root,
            img_dir=img_dir,
            ann_dir=ann_dir,
            split=split,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )
