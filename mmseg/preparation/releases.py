"""The standard releases of other data sets: their folders, and the meaning of their values."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmseg.errors import UserError
from mmseg.utils import output_dir
from mmseg.vocabularies import load_vocabulary

from .masks import (
    UNLABELLED,
    Layout,
    Palette,
    in_parallel,
    read_labels,
    verify,
    write_list,
    write_mask,
)


class Release(NamedTuple):
    """A data set of photos and masks in folders of the same structure.

    Attributes:
        vocabulary: of the prepared masks.
        folders: {split: folder below img_dir and ann_dir}.
        source_suffix: of the release's masks, after the photo's name.
        mask_suffix: of the prepared masks. The same if nothing is converted.
        table: (256,) uint8 from the release's values to ours, or None to keep them.
        zero: name of the value 0 if classes start at 1, or None if they start at 0.
        expected: {split: possible numbers of photos}.
        source: where to get the release, for messages.
    """

    vocabulary: str
    img_dir: str
    ann_dir: str
    folders: dict[str, str]
    img_suffix: str
    source_suffix: str
    mask_suffix: str
    table: NDArray[np.uint8] | None
    zero: str | None
    expected: dict[str, tuple[int, ...]]
    source: str


def table_of(pairs: Mapping[int, int], others: int = UNLABELLED) -> NDArray[np.uint8]:
    """Make a lookup table of {release's value: ours}: (256,) uint8, `others` for other values."""
    table = np.full(256, others, np.uint8)
    for theirs, ours in pairs.items():
        table[theirs] = ours
    return table


# COCO's 91 thing ids without the eleven that no mask has, then the 91 of stuff; values are ids - 1.
COCO_GONE = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
COCO_IDS = [i for i in range(1, 183) if i not in COCO_GONE]
# Cityscapes' ids of the 19 classes that are evaluated, in their order.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

RELEASES = dict(
    ade20k=Release(
        vocabulary='ade20k',
        img_dir='images',
        ann_dir='annotations',
        folders=dict(train='training', val='validation'),
        img_suffix='.jpg',
        source_suffix='.png',
        mask_suffix='.png',
        table=None,
        zero='other',
        expected=dict(train=(20210,), val=(2000,)),
        source='ADEChallengeData2016.zip of http://sceneparsing.csail.mit.edu',
    ),
    cityscapes=Release(
        vocabulary='cityscapes',
        img_dir='leftImg8bit',
        ann_dir='gtFine',
        folders=dict(train='train', val='val'),
        img_suffix='_leftImg8bit.png',
        source_suffix='_gtFine_labelIds.png',
        mask_suffix='_gtFine_labelTrainIds.png',
        table=table_of({theirs: i for i, theirs in enumerate(CITYSCAPES_IDS)}),
        zero=None,
        expected=dict(train=(2975,), val=(500,)),
        source='leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of '
        'https://www.cityscapes-dataset.com (a login)',
    ),
    coco_stuff164k=Release(
        vocabulary='coco_stuff_171',
        img_dir='images',
        ann_dir='annotations',
        folders=dict(train='train2017', val='val2017'),
        img_suffix='.jpg',
        source_suffix='.png',
        mask_suffix='_labelTrainIds.png',
        table=table_of({theirs - 1: i for i, theirs in enumerate(COCO_IDS)}),
        zero=None,
        expected=dict(train=(118287,), val=(5000,)),
        source="COCO 2017's photos and stuffthingmaps_trainval2017.zip of "
        'https://github.com/nightrome/cocostuff',
    ),
)
# The same release read as its 80 things: stuff and what nobody labelled is background.
RELEASES['coco_object'] = RELEASES['coco_stuff164k']._replace(
    vocabulary='coco_object_81',
    mask_suffix='_objectLabels.png',
    table=table_of({theirs - 1: i + 1 for i, theirs in enumerate(COCO_IDS[:80])}, others=0),
)


def prepare(
    name: str,
    root: str | Path,
    *,
    only_verify: bool = False,
    partial: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> None:
    """Convert the masks of a release if needed, write its lists, and check all of it.

    Args:
        name: of RELEASES.
        only_verify: check what was prepared before.
        partial: accept any number of photos.
        overwrite: convert masks again.
        processes: see `in_parallel`.

    Raises:
        UserError: folders are missing, or see `verify`.
    """
    release = RELEASES[name]
    labels = load_vocabulary(release.vocabulary).labels
    values = labels if release.zero is None else (release.zero, *labels)
    layout = Layout(
        Path(root),
        release.img_dir,
        release.ann_dir,
        'ImageSets',
        release.img_suffix,
        release.mask_suffix,
        values,
    )
    if not only_verify:
        for split, folder in release.folders.items():
            names = _names(release, layout, folder)
            _convert(release, layout, names, overwrite, processes)
            write_list(layout.list(split), names)
    expected = None if partial else release.expected
    verify(layout, list(release.folders), expected=expected, processes=processes)


def _names(release: Release, layout: Layout, folder: str) -> list[str]:
    """List the photos below a folder: paths below img_dir, without suffix."""
    root = layout.root / release.img_dir
    photos = root / folder
    paths = sorted(photos.rglob(f'*{release.img_suffix}'))
    if not paths:
        raise UserError(
            f'{photos} holds no *{release.img_suffix}; unpack {release.source} into {layout.root}'
        )
    return [str(path.relative_to(root))[: -len(release.img_suffix)] for path in paths]


def _convert(
    release: Release, layout: Layout, names: list[str], overwrite: bool, processes: int | None
) -> None:
    if release.table is None:
        return
    palette = load_vocabulary(release.vocabulary).palette
    jobs = [
        (
            layout.root / release.ann_dir / f'{name}{release.source_suffix}',
            layout.mask(name),
            release.table,
            palette,
        )
        for name in names
        if overwrite or not layout.mask(name).is_file()
    ]
    for folder in {target.parent for _, target, *_ in jobs}:
        output_dir(folder)
    for _ in in_parallel(_recode, jobs, len(jobs), 'masks', processes=processes, unit='mask'):
        pass


def _recode(job: tuple[Path, Path, NDArray[np.uint8], Palette]) -> None:
    source, target, table, palette = job
    write_mask(target, table[read_labels(source)], palette)
