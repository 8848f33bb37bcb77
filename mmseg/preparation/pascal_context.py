"""Convert annotations of Pascal Context, from JSON or .mat files, to masks of 0 to 59."""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from mmseg.errors import UserError
from mmseg.utils import path_below, reason_of
from mmseg.utils.json_stream import json_elements
from mmseg.vocabularies import load_vocabulary

from .masks import mat_labels

CATEGORIES = 460  # ids 0 to 459, of which 0 is 'nothing'
SIDE = 2**15  # pixels; all photos are smaller
Segments = list[tuple[int, Any]]  # (label 0..59, outline), in the file's order


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
