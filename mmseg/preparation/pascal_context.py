"""Pascal Context: masks of 0 to 59 and split lists, from the release's JSON or its .mat files."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from mmseg.datasets import PascalContextDataset
from mmseg.datasets.reading import read_list
from mmseg.errors import UserError
from mmseg.utils import path_below, reason_of
from mmseg.utils.json_stream import json_elements
from mmseg.vocabularies import load_vocabulary

from .archives import fetch_release, unpack
from .masks import Layout, convert_masks, layout_of, mat_labels, start_masks, verify, write_list

INSIDE = 'VOCdevkit/VOC2010/'
PHOTOS = ['http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar']
JSON = ['https://codalabuser.blob.core.windows.net/public/trainval_merged.json']
SPLITS = ('train', 'val')
EXPECTED = dict(train=(4998, 4996), val=(5105, 5104))  # of the JSON, and of the published lists
VALUES = load_vocabulary('pascal_context_60')
CATEGORIES = 460  # ids 0 to 459, of which 0 is 'nothing'
SIDE = 2**15  # pixels; all photos are smaller
Segments = list[tuple[int, Any]]  # (label 0..59, outline), in the file's order


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
        only_verify, partial, overwrite, processes: see `mmseg.preparation.releases.prepare`.

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
        labels_of, jobs, splits, shortfalls = plan
        start_masks(layout, source, overwrite=overwrite)
        convert_masks(labels_of, jobs, VALUES.palette, processes=processes)
        for split, names in splits.items():
            write_list(layout.list(split), sorted(names))
    expected = None if partial else EXPECTED
    verify(layout, SPLITS, expected=expected, processes=processes, shortfalls=shortfalls)


# Arguments of `convert_masks`, the names of each split, and the missing files.
Plan = tuple[Callable[..., Any], list[tuple], dict[str, list[str]], list[str]]


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
    return paint, jobs, splits, shortfalls


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
    return read_mat, jobs, splits, shortfalls


class Photo(NamedTuple):
    """A photo of the JSON: name without suffix, phase (train, val or test) and size."""

    name: str
    phase: str
    height: int
    width: int


def label_table() -> NDArray[np.uint8]:
    """Make the (460,) table from category ids to 0 (other) or 1 to 59 (the classes, in order).

    Category ids number the 459 labels of the release, from 1.
    """
    all_labels = load_vocabulary('pascal_context_459').labels
    table = np.zeros(CATEGORIES, np.uint8)
    for label, name in enumerate(load_vocabulary('pascal_context_59').labels, start=1):
        table[all_labels.index(name) + 1] = label
    return table


def read_annotations(path: str | Path) -> tuple[dict[Any, Photo], dict[Any, Segments]]:
    """Read the JSON file as a stream: {id: Photo} and {id: Segments}.

    Raises:
        UserError: the file is cut short, of another layout, or has an unknown category.
    """
    images: dict[Any, Photo] = {}
    segments: dict[Any, Segments] = defaultdict(list)
    try:
        for key, row in json_elements(path):
            if key == 'images':
                images[row['id' if 'id' in row else 'image_id']] = _photo(row, path)
            elif key == 'annos_segmentation':
                outline = outline_of(row['segmentation'])
                segments[row['image_id']].append((row['category_id'], outline))
    except FileNotFoundError as error:
        raise UserError(
            f'no such file: {path}; fetch it with --download, or name it with --json'
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else reason_of(error)
        raise UserError(f'{path} is not the whole JSON of Pascal Context: {reason}') from error
    if not images or not segments:
        raise UserError(f'{path} names no image or no annotation: it is not Pascal Context')
    table = label_table()
    for key, rows in segments.items():
        name = images[key].name if key in images else key
        segments[key] = [(_label(table, category, name), outline) for category, outline in rows]
    return images, dict(segments)


def _photo(row: dict[str, Any], path: str | Path) -> Photo:
    """Read an element of 'images'."""
    name = str(path_below('', row['file_name'], path).with_suffix(''))
    sides = row['height'], row['width']
    is_word = isinstance(row['phase'], str) and len(name.split()) == 1
    if not is_word or not all(type(side) is int and 0 < side < SIDE for side in sides):
        raise UserError(
            f'{path}: {name!r} ({row["phase"]!r}) is {sides[1]!r}x{sides[0]!r}; a photo has a name '
            f'of one word, and 1 to {SIDE - 1} pixels a side'
        )
    return Photo(name, row['phase'], *sides)


def _label(table: NDArray[np.uint8], category: Any, name: object) -> int:
    """Look up a category of the photo `name`."""
    if type(category) is not int or not 0 <= category < CATEGORIES:
        raise UserError(
            f'an annotation of {name} has category {category!r}; '
            f'Pascal Context knows 0 to {CATEGORIES - 1}'
        )
    return int(table[category])


def outline_of(segmentation: Any) -> Any:
    """Shrink COCO's compressed run lengths to (height, width, bytes); keep other forms."""
    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], str):
        return (*segmentation['size'], segmentation['counts'].encode())
    return segmentation


def paint(image: Photo, segments: Segments) -> NDArray[np.uint8]:
    """Paint (H, W) labels of a photo; later segments cover earlier ones.

    Raises:
        UserError: an outline cannot be decoded, or has another size than the photo.
    """
    labels = np.zeros((image.height, image.width), np.uint8)
    for label, outline in segments:
        try:
            labels[decode_outline(outline, labels.shape)] = label
        except Exception as error:  # pycocotools' errors have no common type
            raise UserError(
                f'{image.name}: an annotation cannot be decoded: {reason_of(error)}'
            ) from error
    return labels


def decode_outline(outline: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Decode an outline to (H, W). pycocotools trusts sizes, so they are checked before.

    Raises:
        Exception: an outline that cannot be decoded; pycocotools' errors have no common type.
    """
    if isinstance(outline, list):
        if not all(np.abs(polygon).max() <= SIDE for polygon in outline):
            raise ValueError('a polygon leads far out of the photo')
        return coco.decode(coco.merge(coco.frPyObjects(outline, *shape))).astype(bool)
    if isinstance(outline, dict):
        outline = (*outline['size'], outline['counts'])
    *size, counts = outline
    if tuple(size) != shape:
        raise ValueError(f'it is of size {size}, the photo {list(shape)}')
    runs = dict(size=size, counts=counts)
    return coco.decode(runs if isinstance(counts, bytes) else coco.frPyObjects(runs, *shape)) > 0


def read_mat(path: str | Path) -> NDArray[np.uint8]:
    """Read (H, W) labels of 0 to 59 from a .mat file of the original release.

    Raises:
        UserError: the file is damaged, or has no LabelMap or an unknown category.
    """
    labels = mat_labels(path, lambda content: content['LabelMap'], 'Pascal Context')
    if labels.max() >= CATEGORIES:
        raise UserError(f'{path} has category {labels.max()}; Pascal Context knows 0 to 459')
    return label_table()[labels]
