"""Anybody's annotations in COCO's JSON, polygons or run lengths -> masks and a list of classes."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir, path_below, reason_of
from mmseg.utils.json_stream import json_elements
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .masks import UNLABELLED, in_parallel, write_mask
from .pascal_context import Photo, Segments, outline_of, paint, photo_of

CLASSES = 'classes.txt'  # written beside the masks
Job = tuple[Photo, Segments, Path, tuple[tuple[int, int, int], ...]]


def convert(json: str | Path, out: str | Path, *, processes: int | None = None) -> None:
    """Write a mask PNG for each annotated photo, and `classes.txt`.

    Classes are ordered by COCO's ids; the first is 1 in the masks, 0 is what nobody labelled.
    Where annotations overlap, the smaller one is in front.

    Args:
        json: 'images', 'annotations' with 'segmentation', and 'categories'.
        out: folder of the masks, which are named as the photos.
        processes: see `in_parallel`.

    Raises:
        UserError: the file is damaged or of another layout, or a mask cannot be painted.
    """
    images, segments, names = _read(json)
    words = load_vocabulary([f'{name}: {name.replace("_", " ")}' for name in names.values()])
    if len(words) >= UNLABELLED:
        raise UserError(f'{json} has {len(words)} categories; masks hold at most {UNLABELLED - 1}')
    folder, label_of = output_dir(out), {key: i for i, key in enumerate(names, start=1)}
    palette, jobs = ((0, 0, 0), *words.palette), dict[Path, Job]()
    for key, rows in segments.items():
        photo = images[key]
        target = path_below(folder, f'{photo.name}.png', json)
        if target in jobs:
            raise UserError(f'{json} names two photos {photo.name}, whose masks would be {target}')
        rows.sort(key=lambda row: -row[0])
        labels = [(label_of[category], outline) for _, category, outline in rows]
        jobs[target] = (photo, labels, target, palette)
    painted = in_parallel(
        _paint, jobs.values(), len(jobs), 'masks', processes=processes, unit='mask'
    )
    pixels = np.sum(list(painted), axis=0)
    _write_classes(folder / CLASSES, words)
    print(f'{len(jobs)} masks of {len(images)} photos, and {CLASSES}, written to {folder}')
    for name, count in zip(words.labels, pixels[1:]):
        print(f'{count / max(pixels[1:].sum(), 1):7.2%} of the labelled pixels: {name}')


def _read(
    path: str | Path,
) -> tuple[dict[Any, Photo], dict[Any, list[tuple[float, Any, Any]]], dict[Any, str]]:
    """Read {id: Photo}, {id of the photo: [(area, category, outline)]}, {category: name}"""
    images, names = dict[Any, Photo](), dict[Any, str]()
    segments = defaultdict[Any, list[tuple[float, Any, Any]]](list)
    try:
        for key, row in json_elements(path):
            if key == 'images':
                images[row['id']] = photo_of(row, path)
            elif key == 'categories':
                names[row['id']] = str(row['name']).strip()
            elif key == 'annotations':
                width, height = row['bbox'][2:] if 'bbox' in row else (0, 0)
                outline = outline_of(row['segmentation'])
                area = float(row.get('area', width * height))
                segments[row['image_id']].append((area, row['category_id'], outline))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else reason_of(error)
        raise UserError(
            f"{path} is no JSON of COCO's layout with segmentations: {reason}"
        ) from error
    if not images or not segments or not names:
        raise UserError(f'{path} names no image, no annotation or no category')
    unknown = {i for i in segments if i not in images}
    unknown |= {category for rows in segments.values() for _, category, _ in rows} - names.keys()
    if unknown:
        raise UserError(f'{path}: an annotation has the unknown image or category {min(unknown)!r}')
    return images, segments, dict(sorted(names.items()))


def _paint(job: Job) -> NDArray[np.int64]:
    """Write one mask; return the pixels of each value."""
    photo, segments, target, palette = job
    labels = paint(photo, segments)
    write_mask(target, labels, palette)
    return np.bincount(labels.ravel(), minlength=len(palette))


def _write_classes(path: Path, words: Vocabulary) -> None:
    lines = [f'{label}: {prompts[0]}' for label, prompts in zip(words.labels, words.prompts)]
    with atomic_path(path) as temporary:
        temporary.write_text('\n'.join(lines) + '\n', encoding='utf-8')
