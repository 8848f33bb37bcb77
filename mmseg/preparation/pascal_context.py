"""Pascal Context's annotations, of the JSON or of the .mat files, -> masks of 0 to 59."""

from collections import defaultdict
from typing import NamedTuple

import ijson
import numpy as np
import scipy.io
from pycocotools import mask as coco

from mmseg.errors import UserError
from mmseg.vocabularies import load_vocabulary

CATEGORIES = 460  # ids 0 to 459, of which 0 is 'nothing'


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
    table, segments = label_table(), defaultdict(list)
    try:
        with open(path, 'rb') as file:
            images = {
                row['id' if 'id' in row else 'image_id']: Photo(
                    row['file_name'].rpartition('.')[0], row['phase'], row['height'], row['width']
                )
                for row in ijson.items(file, 'images.item')
            }
            file.seek(0)
            for row in ijson.items(file, 'annos_segmentation.item'):
                label = _label(table, row, images)
                segments[row['image_id']].append((label, _outline(row['segmentation'])))
    except FileNotFoundError as error:
        raise UserError(
            f'no such file: {path}; fetch it with --download, or name it with --json'
        ) from error
    except (ijson.JSONError, KeyError, AttributeError, TypeError) as error:
        what = f'it lacks {error}' if isinstance(error, KeyError) else 'it is cut short or damaged'
        raise UserError(f'{path} is not the whole JSON of Pascal Context: {what}') from error
    if not images or not segments:
        raise UserError(f'{path} names no image or no annotation: it is not Pascal Context')
    return images, dict(segments)


def _label(table, row, images):
    category = row['category_id']
    if not 0 <= category < CATEGORIES:
        name = images[row['image_id']].name if row['image_id'] in images else row['image_id']
        raise UserError(
            f'annotation {row.get("id")} of {name} has category {category}; Pascal Context knows '
            f'0 to {CATEGORIES - 1}'
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
        UserError: an outline of another size than the photo.
    """
    labels = np.zeros((image.height, image.width), np.uint8)
    for label, outline in segments:
        inside = _decode(outline, image)
        if inside.shape != labels.shape:
            raise UserError(
                f'{image.name}: an annotation is {inside.shape[1]}x{inside.shape[0]}, the photo '
                f'{image.width}x{image.height}'
            )
        labels[inside] = label
    return labels


def _decode(outline, image):
    """-> (H, W) bool"""
    try:
        if isinstance(outline, tuple):
            height, width, counts = outline
            return coco.decode(dict(size=[height, width], counts=counts)).astype(bool)
        runs = coco.frPyObjects(outline, image.height, image.width)
        return coco.decode(coco.merge(runs) if isinstance(runs, list) else runs).astype(bool)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{image.name}: an annotation cannot be decoded: {error}') from error


def read_mat(path):
    """A .mat of the original release -> (H, W) uint8 of 0 to 59.

    Raises:
        UserError: damaged, without LabelMap, or with a category that nobody knows.
    """
    try:
        labels = scipy.io.loadmat(path)['LabelMap']
    except KeyError as error:
        raise UserError(f'{path} has no LabelMap: it is not of Pascal Context') from error
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f'{path} cannot be read as a .mat file: {error}') from error
    if labels.size and int(labels.max()) >= CATEGORIES:
        raise UserError(f'{path} has category {labels.max()}; Pascal Context knows 0 to 459')
    return label_table()[labels.astype(np.int64)]
