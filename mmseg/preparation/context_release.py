"""Pascal Context's release: masks of 60 values and split lists, from its JSON or its .mat files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmseg.datasets import PascalContextDataset
from mmseg.errors import UserError
from mmseg.vocabularies import load_vocabulary

from .archives import fetch_release, unpack
from .masks import (
    Layout,
    convert_masks,
    layout_of,
    read_list,
    start_masks,
    verify,
    write_list,
    write_mask,
)
from .pascal_context import paint, read_annotations, read_mat

INSIDE = 'VOCdevkit/VOC2010/'
PHOTOS = ['http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar']
JSON = ['https://codalabuser.blob.core.windows.net/public/trainval_merged.json']
SPLITS = ('train', 'val')
EXPECTED = dict(train=(4998, 4996), val=(5105, 5104))  # of the JSON, and of the published lists
VALUES = load_vocabulary('pascal_context_60')


def fetch(root: Path, json: Path | None = None, *, mirror: str | None = None) -> Path:
    """Download the photos, and the JSON unless it is named; return the JSON's path."""
    if root.parts[-2:] != ('VOCdevkit', 'VOC2010'):
        raise UserError(f'--download makes .../VOCdevkit/VOC2010; {root} ends otherwise')
    json = json or fetch_release(JSON, root, mirror=mirror)
    archive = fetch_release(PHOTOS, root.parent.parent, mirror=mirror)
    unpack(archive, root.parent.parent, [f'{INSIDE}JPEGImages/', f'{INSIDE}ImageSets/'])
    return json


def prepare(
    root: Path,
    *,
    json: Path | None = None,
    mat: Path | None = None,
    lists: Path | None = None,
    only_verify: bool = False,
    partial: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> None:
    """Write masks and split lists below VOC 2010's folder, and verify them.

    Args:
        root: the folder VOC2010, with its JPEGImages.
        json: the release's JSON; default root/trainval_merged.json.
        mat: a folder of .mat files to read instead of the JSON.
        lists: with `mat`: a folder of train.txt and val.txt; default those of VOC 2010.
        only_verify: write nothing.
        partial: accept any number of photos.
        overwrite: write masks anew.
        processes: default the cores of this machine.

    Raises:
        UserError: something is missing or wrong; it is printed before.
    """
    layout = layout_of(PascalContextDataset, root)
    shortfalls: list[str] = []
    if not only_verify:
        if not (root / 'JPEGImages').is_dir():
            raise UserError(f"{root} has no JPEGImages; name VOC 2010's folder, or use --download")
        source = mat or json or root / 'trainval_merged.json'
        plan = _from_mat(layout, mat, lists) if mat else _from_json(layout, source)
        function, jobs, splits, shortfalls = plan
        start_masks(layout, source, overwrite=overwrite)
        convert_masks(function, jobs, processes=processes)
        for split, names in splits.items():
            write_list(layout.list(split), sorted(names))
    expected = None if partial else EXPECTED
    verify(layout, SPLITS, expected=expected, processes=processes, shortfalls=shortfalls)


# A function of one job, its jobs (each ends in the mask's path), the names of each split, and the
# missing files.
Plan = tuple[Callable[[Any], None], list[tuple], dict[str, list[str]], list[str]]


def _from_json(layout: Layout, path: Path) -> Plan:
    print(f'reading {path} ...', flush=True)
    images, segments = read_annotations(path)
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    shortfalls, jobs = [], []
    for key, photo in images.items():
        if photo.phase in splits and key in segments:
            splits[photo.phase].append(photo.name)
            jobs.append((photo, segments[key], layout.mask(photo.name)))
        elif photo.phase in splits:
            shortfalls.append(f'{photo.name} ({photo.phase}) has no annotation; it is in no list')
    return _paint_one, jobs, splits, shortfalls


def _paint_one(job: Sequence[Any]) -> None:
    photo, segments, target = job
    write_mask(target, paint(photo, segments), VALUES.palette)


def _from_mat(layout: Layout, mat: Path, lists: Path | None) -> Plan:
    files = {path.stem: path for path in sorted(mat.rglob('*.mat'))}
    if not files:
        raise UserError(f'{mat} holds no .mat file')
    folder = lists or layout.root / 'ImageSets' / 'Main'
    splits = {split: read_list(folder / f'{split}.txt') for split in SPLITS}
    shortfalls = []
    for split, names in splits.items():
        if lists:  # VOC 2010's lists name more photos than the release has
            missing = [name for name in names if name not in files]
            shortfalls += [f'{n} ({split}) has no .mat file; it is in no list' for n in missing]
        splits[split] = [name for name in names if name in files]
    named = {name for names in splits.values() for name in names}
    jobs = [(files[name], layout.mask(name)) for name in sorted(named)]
    return _convert_one, jobs, splits, shortfalls


def _convert_one(job: Sequence[Path]) -> None:
    source, target = job
    write_mask(target, read_mat(source), VALUES.palette)
