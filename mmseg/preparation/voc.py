"""PASCAL VOC 2012: its masks, and SBD's as the augmented training set."""

from pathlib import Path

import numpy as np

from mmseg.datasets import PascalVOCDataset
from mmseg.datasets.reading import read_list
from mmseg.errors import UserError
from mmseg.vocabularies import load_vocabulary

from .archives import fetch_release, unpack
from .masks import Layout, convert_masks, layout_of, mat_labels, read_labels, verify, write_list

INSIDE = 'VOCdevkit/VOC2012/'
ARCHIVES = ['http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar']
EXPECTED = dict(train=(1464,), val=(1449,), trainaug=(10582,))
VALUES = load_vocabulary('voc_21')


def fetch(root: Path, *, mirror: str | None = None) -> None:
    """Download the release and unpack it, so that `root` is its VOC2012 folder."""
    if root.parts[-2:] != ('VOCdevkit', 'VOC2012'):
        raise UserError(f'--download makes .../VOCdevkit/VOC2012; {root} ends otherwise')
    target = root.parent.parent
    unpack(fetch_release(ARCHIVES, target, mirror=mirror), target, [INSIDE])


def prepare(
    root: Path,
    sbd: Path | None = None,
    *,
    only_verify: bool = False,
    partial: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> None:
    """Write the augmented masks if SBD's folder is named, and verify all masks and lists.

    Raises:
        UserError: something is missing or wrong; it is printed before.
    """
    original = layout_of(PascalVOCDataset, root)._replace(values=VALUES.labels)
    augmented = original._replace(ann_dir=f'{original.ann_dir}Aug')
    if sbd and not only_verify:
        _augment(sbd, original, augmented, overwrite=overwrite, processes=processes)
    expected = None if partial else EXPECTED
    verify(original, ['train', 'val'], expected=expected, processes=processes)
    if augmented.list('trainaug').is_file():
        verify(augmented, ['trainaug'], expected=expected, processes=processes)


def _augment(
    sbd: Path, original: Layout, augmented: Layout, *, overwrite: bool, processes: int | None
) -> None:
    """Write SBD's masks as PNGs, and the list of them all; those of VOC take precedence."""
    files = {p.stem: p for suffix in ('mat', 'png') for p in sbd.rglob(f'*.{suffix}')}
    if not files:
        raise UserError(f"{sbd} holds no .mat and no .png; name SBD's dataset/cls")
    files |= {name: original.mask(name) for name in read_list(original.list('train'))}
    names = sorted(set(files) - set(read_list(original.list('val'))))
    jobs = [(files[name], augmented.mask(name)) for name in names]
    convert_masks(_labels_of, jobs, VALUES.palette, overwrite=overwrite, processes=processes)
    write_list(augmented.list('trainaug'), names)


def _labels_of(path: Path) -> np.ndarray:
    return read_sbd(path) if path.suffix == '.mat' else read_labels(path)


def read_sbd(path: Path) -> np.ndarray:
    """Read a .mat of SBD's `cls` as (H, W) uint8."""
    labels = mat_labels(path, lambda content: content['GTcls'][0, 0]['Segmentation'], 'SBD')
    return labels.clip(max=255).astype('uint8')
