"""Data sets laid out as a folder of photos, a folder of index masks and a split list."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from mmseg.errors import UserError
from mmseg.registry import DATASETS
from mmseg.utils import path_below, validated
from mmseg.vocabularies import load_vocabulary

from .base import PhotoDataset, VocabularySource
from .reading import list_photos, read_list

MOST_LISTED = 10  # missing files that a message names


@DATASETS.register_module()
class SegDataset(PhotoDataset):
    """Photos with masks of class ids. Masks are PNGs of the photos' size; 255 is unlabelled.

    Args:
        img_dir, ann_dir: folders of photos and masks; `ann_dir` None for a data set without masks.
        split: a text file with one name per line, without suffix; None for all photos that have a
            mask of their name, and without `ann_dir` for all photos.
        img_suffix, seg_map_suffix: suffixes of photos and masks. Without a `split`, photos may have
            any.
        reduce_zero_label: id 0 means unlabelled and class ids start at 1 (Context-59, VOC-20).
        kwargs: see `PhotoDataset`.

    Raises:
        UserError: the list is missing, empty or names a photo twice, a listed file does not exist,
            or a mask has no photo.
    """

    @validated
    def __init__(
        self,
        vocabulary: VocabularySource,
        data_root: str | Path | None,
        *,
        img_dir: str,
        ann_dir: str | None,
        split: str | None = None,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = False,
        **kwargs: Any,
    ) -> None:
        self.img_dir, self.ann_dir, self.split = img_dir, ann_dir, split
        self.img_suffix, self.seg_map_suffix = img_suffix, seg_map_suffix
        self.reduce_zero_label = reduce_zero_label
        super().__init__(vocabulary, data_root, **kwargs)

    @property
    def photo_root(self) -> Path:
        return Path(self.data_root, self.img_dir)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return one `PhotoDataset.row` per photo."""
        pairs = self._pairs() if self.split is None else self._listed(self.split)
        return [self.row(*pair, reduce_zero_label=self.reduce_zero_label) for pair in pairs]

    def _listed(self, split: str) -> list[tuple[Path, Path | None]]:
        """Pair the photo and the mask of each name in a list."""
        root, pairs = Path(self.data_root), []
        for name in _read_split(root / split):
            mask = None
            if self.ann_dir is not None:
                file = f'{name}{self.seg_map_suffix}'
                mask = path_below(root / self.ann_dir, file, root / split)
            photo = path_below(root / self.img_dir, f'{name}{self.img_suffix}', root / split)
            pairs.append((photo, mask))
        if absent := [str(path) for pair in pairs for path in pair if path and not path.is_file()]:
            more = f' and {len(absent) - MOST_LISTED} more' if len(absent) > MOST_LISTED else ''
            raise UserError(
                f'{root / split} names {len(absent)} files that do not exist: '
                f'{", ".join(absent[:MOST_LISTED])}{more}'
            )
        return pairs

    def _pairs(self) -> list[tuple[Path, Path | None]]:
        """Pair each mask with the photo of its name; without masks, list all photos."""
        if self.ann_dir is None:
            return [(photo, None) for photo in list_photos(self.photo_root)]
        folder = Path(self.data_root, self.ann_dir)
        masks = {
            str(path.relative_to(folder))[: -len(self.seg_map_suffix)]: path
            for path in sorted(folder.rglob(f'*{self.seg_map_suffix}'))
            if not path.name.startswith('.')
        }
        if not masks:
            raise UserError(
                f'no mask *{self.seg_map_suffix} in {folder}; set data_root and ann_dir'
            )
        known = set(masks.values())  # which may lie beside the photos
        photos = {
            str(path.relative_to(self.photo_root).with_suffix('')): path
            for path in list_photos(self.photo_root)
            if path not in known
        }
        if lonely := [str(path) for name, path in masks.items() if name not in photos]:
            raise UserError(
                f'{len(lonely)} masks have no photo of their name in {self.photo_root}: '
                f'{", ".join(lonely[:MOST_LISTED])}'
            )
        return [(photos[name], path) for name, path in masks.items()]


def _read_split(path: Path) -> list[str]:
    names = read_list(path)
    if not names:
        raise UserError(f'the split list {path} is empty')
    if double := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f'the split list {path} names twice: {", ".join(double[:5])}; such photos would count '
            'twice: name each once'
        )
    return names


class ReleasedDataset(SegDataset):
    """A public data set in its usual folder. A subclass names its files in `release`.

    Attributes:
        release: arguments of `SegDataset`.

    Args:
        options: arguments that replace those of the release.
    """

    release: ClassVar[dict[str, Any]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**(self.release | options))


@DATASETS.register_module()
class PascalContextDataset59(ReleasedDataset):
    """Pascal Context, 59 classes; all other pixels are ignored."""

    release = dict(
        vocabulary='pascal_context_59',
        data_root='data/VOCdevkit/VOC2010',
        img_dir='JPEGImages',
        ann_dir='SegmentationClassContext',
        split='ImageSets/SegmentationContext/val.txt',
        reduce_zero_label=True,
    )


@DATASETS.register_module()
class PascalContextDataset(ReleasedDataset):
    """Pascal Context, 59 classes and background as the 60th, with id 0."""

    release = PascalContextDataset59.release | dict(
        vocabulary='pascal_context_60', reduce_zero_label=False
    )


@DATASETS.register_module()
class PascalVOCDataset(ReleasedDataset):
    """PASCAL VOC 2012, 20 classes without background ('voc_20'), or 21 with it ('voc_21')."""

    release = dict(
        vocabulary='voc_20',
        data_root='data/VOCdevkit/VOC2012',
        img_dir='JPEGImages',
        ann_dir='SegmentationClass',
        split='ImageSets/Segmentation/val.txt',
    )

    def __init__(self, **options: Any) -> None:
        words = load_vocabulary(options.get('vocabulary', self.release['vocabulary']))
        options.setdefault('reduce_zero_label', words.labels[0] != 'background')
        super().__init__(**options)


@DATASETS.register_module()
class ADE20KDataset(ReleasedDataset):
    """ADE20K scene parsing, 150 classes, as `tools/convert_datasets/release.py` writes it."""

    release = dict(
        vocabulary='ade20k',
        data_root='data/ade/ADEChallengeData2016',
        img_dir='images',
        ann_dir='annotations',
        split='ImageSets/val.txt',
        reduce_zero_label=True,
    )


@DATASETS.register_module()
class COCOStuffDataset(ReleasedDataset):
    """COCO-Stuff 164k, 171 classes, as `tools/convert_datasets/release.py` writes it."""

    release = dict(
        vocabulary='coco_stuff_171',
        data_root='data/coco_stuff164k',
        img_dir='images',
        ann_dir='annotations',
        split='ImageSets/val.txt',
        seg_map_suffix='_labelTrainIds.png',
    )


@DATASETS.register_module()
class COCOObjectDataset(ReleasedDataset):
    """COCO's 80 things and background, as `tools/convert_datasets/release.py` writes it."""

    release = COCOStuffDataset.release | dict(
        vocabulary='coco_object_81', seg_map_suffix='_objectLabels.png'
    )


@DATASETS.register_module()
class CityscapesDataset(ReleasedDataset):
    """Cityscapes, 19 classes, as `tools/convert_datasets/release.py` writes it."""

    release = dict(
        vocabulary='cityscapes',
        data_root='data/cityscapes',
        img_dir='leftImg8bit',
        ann_dir='gtFine',
        split='ImageSets/val.txt',
        img_suffix='_leftImg8bit.png',
        seg_map_suffix='_gtFine_labelTrainIds.png',
    )
