"""Pascal Context's annotations, of the JSON or of the .mat files, -> masks of 0 to 59."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco

from mmseg.errors import UserError
from mmseg.utils import path_below, reason_of
from mmseg.utils.json_stream import json_elements
from mmseg.vocabularies import load_vocabulary

from .masks import mat_labels

CATEGORIES = 460  # ids 0 to 459, of which 0 is 'nothing'
SIDE = 2**15  # pixels that no side of a photo has


class Photo(NamedTuple):
    """A photo of the JSON: its name without suffix, train, val or test, and its size."""

    name: str
    phase: str
    height: int
    width: int


def label_table():
    """-> (460,) uint8: category id -> 0 (anything else) or 1 to 59, the classes alphabetically.

    A category's id is its place, from 1 on, among the 459 labels of the release.
    """
    all_labels = load_vocabulary('pascal_context_459').labels
    table = np.zeros(CATEGORIES, np.uint8)
    for label, name in enumerate(load_vocabulary('pascal_context_59').labels, start=1):
        table[all_labels.index(name) + 1] = label
    return table


def read_annotations(path):
    """The JSON file -> {id: Photo}, {id: [(label 0..59, RLE), ...] in the file's order}.

    It is read as a stream, so that its size in memory is that of the outlines alone.

    Raises:
        UserError: cut short, of another layout, or with a category that nobody knows.
    """
    images, segments = {}, defaultdict(list)
    try:
        for key, row in json_elements(path):
            if key == 'images':
                images[row['id' if 'id' in row else 'image_id']] = _photo(row, path)
            elif key == 'annos_segmentation':
                outline = _outline(row['segmentation'])
                segments[row['image_id']].append((row['category_id'], outline))
    except FileNotFoundError as error:
        raise UserError(
            f'no such file: {path}; fetch it with --download, or name it with --json'
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        what = f'it lacks {error}' if isinstance(error, KeyError) else reason_of(error)
        raise UserError(f'{path} is not the whole JSON of Pascal Context: {what}') from error
    if not images or not segments:
        raise UserError(f'{path} names no image or no annotation: it is not Pascal Context')
    table = label_table()
    for key, rows in segments.items():
        name = images[key].name if key in images else key
        segments[key] = [(_label(table, category, name), outline) for category, outline in rows]
    return images, dict(segments)


def _photo(row, path):
    """An element of 'images' -> Photo"""
    name = str(path_below('', row['file_name'], path).with_suffix(''))
    sides = row['height'], row['width']
    if len(name.split()) != 1 or not all(type(s) is int and 0 < s < SIDE for s in sides):
        raise UserError(
            f'{path}: {name!r} is {sides[1]!r}x{sides[0]!r}; a photo has a name of one word, and '
            f'1 to {SIDE - 1} pixels a side'
        )
    return Photo(name, row['phase'], *sides)


def _label(table, category, name):
    if type(category) is not int or not 0 <= category < CATEGORIES:
        raise UserError(
            f'an annotation of {name} has category {category!r}; '
            f'Pascal Context knows 0 to {CATEGORIES - 1}'
        )
    return int(table[category])


def _outline(segmentation):
    """COCO's run lengths, their string as bytes; or what pycocotools makes of polygons and lists"""
    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], str):
        return (*segmentation['size'], segmentation['counts'].encode())
    return segmentation


def paint(image, segments):
    """Photo, [(label, outline), ...] -> (H, W) uint8: the later lies over the earlier.

    Raises:
        UserError: an outline that cannot be decoded, or of another size than the photo.
    """
    labels = np.zeros((image.height, image.width), np.uint8)
    for label, outline in segments:
        try:
            labels[_decode(outline, labels.shape)] = label
        except Exception as error:  # pycocotools' errors have no common type
            raise UserError(
                f'{image.name}: an annotation cannot be decoded: {reason_of(error)}'
            ) from error
    return labels


def _decode(outline, shape):
    """An outline, (H, W) -> (H, W) bool; pycocotools trusts sizes, so they are checked before"""
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


def read_mat(path):
    """A .mat of the original release -> (H, W) uint8 of 0 to 59.

    Raises:
        UserError: damaged, without LabelMap, or with a category that nobody knows.
    """
    labels = mat_labels(path, lambda content: content['LabelMap'], 'Pascal Context')
    if labels.max() >= CATEGORIES:
        raise UserError(f'{path} has category {labels.max()}; Pascal Context knows 0 to 459')
    return label_table()[labels]
