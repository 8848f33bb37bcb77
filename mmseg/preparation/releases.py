"""The standard releases of other data sets: their folders, and the meaning of their values."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOObjectDataset,
    COCOStuffDataset,
    ReleasedDataset,
)
from mmseg.errors import UserError
from mmseg.vocabularies import load_vocabulary

from .masks import UNLABELLED, Layout, convert_masks, layout_of, read_labels, verify, write_list


class Release(NamedTuple):
    """The form in which a data set is released, with photos and masks in folders alike.

    Attributes:
        dataset: which reads the prepared masks.
        folders: {split: folder below img_dir and ann_dir}.
        expected: {split: possible numbers of photos}.
        source: where to get the release, for messages.
        source_suffix: of the release's masks, after the photo's name.
        table: (256,) uint8 from the release's values to ours, or None to keep its masks.
    """

    dataset: type[ReleasedDataset]
    folders: dict[str, str]
    expected: dict[str, tuple[int, ...]]
    source: str
    source_suffix: str = '.png'
    table: NDArray[np.uint8] | None = None


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
        ADE20KDataset,
        folders=dict(train='training', val='validation'),
        expected=dict(train=(20210,), val=(2000,)),
        source='ADEChallengeData2016.zip of http://sceneparsing.csail.mit.edu',
    ),
    cityscapes=Release(
        CityscapesDataset,
        folders=dict(train='train', val='val'),
        expected=dict(train=(2975,), val=(500,)),
        source='leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of '
        'https://www.cityscapes-dataset.com (a login)',
        source_suffix='_gtFine_labelIds.png',
        table=table_of({theirs: i for i, theirs in enumerate(CITYSCAPES_IDS)}),
    ),
    coco_stuff164k=Release(
        COCOStuffDataset,
        folders=dict(train='train2017', val='val2017'),
        expected=dict(train=(118287,), val=(5000,)),
        source="COCO 2017's photos and stuffthingmaps_trainval2017.zip of "
        'https://github.com/nightrome/cocostuff',
        table=table_of({theirs - 1: i for i, theirs in enumerate(COCO_IDS)}),
    ),
)
# The same release read as its 80 things: stuff and what nobody labelled is background.
RELEASES['coco_object'] = RELEASES['coco_stuff164k']._replace(
    dataset=COCOObjectDataset,
    table=table_of({theirs - 1: i + 1 for i, theirs in enumerate(COCO_IDS[:80])}, others=0),
)


def prepare(
    name: str,
    root: str | Path | None = None,
    *,
    only_verify: bool = False,
    partial: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> None:
    """Convert the masks of a release if needed, write its lists, and check all of it.

    Args:
        name: of RELEASES.
        root: the folder; None for the one that its data set reads.
        only_verify: check what was prepared before.
        partial: accept any number of photos.
        overwrite: convert masks again.
        processes: see `in_parallel`.

    Raises:
        UserError: folders are missing, or see `verify`.
    """
    release = RELEASES[name]
    layout = layout_of(release.dataset, Path(root or release.dataset.release['data_root']))
    if not only_verify:
        palette = load_vocabulary(release.dataset.release['vocabulary']).palette
        for split, folder in release.folders.items():
            names = _names(release, layout, folder)
            if release.table is not None:
                masks = layout.root / layout.ann_dir
                sources = [masks / f'{x}{release.source_suffix}' for x in names]
                jobs = [(s, release.table, layout.mask(x)) for s, x in zip(sources, names)]
                convert_masks(_recoded, jobs, palette, overwrite=overwrite, processes=processes)
            write_list(layout.list(split), names)
    expected = None if partial else release.expected
    verify(layout, list(release.folders), expected=expected, processes=processes)


def _names(release: Release, layout: Layout, folder: str) -> list[str]:
    """List the photos below a folder: paths below img_dir, without suffix."""
    root = layout.root / layout.img_dir
    paths = sorted((root / folder).rglob(f'*{layout.img_suffix}'))
    if not paths:
        raise UserError(
            f'{root / folder} holds no *{layout.img_suffix}; unpack {release.source} into '
            f'{layout.root}'
        )
    return [str(path.relative_to(root)).removesuffix(layout.img_suffix) for path in paths]


def _recoded(source: Path, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return table[read_labels(source)]
