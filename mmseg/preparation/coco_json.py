"""Your own annotations in COCO's JSON -> label PNGs and a list of classes, for a data set."""

from pathlib import Path

import numpy as np

from mmseg.datasets.reading import list_photos
from mmseg.errors import UserError
from mmseg.utils import Progress, output_dir, path_below, reason_of, write_text
from mmseg.utils.json_stream import json_elements
from mmseg.vocabularies import Vocabulary, load_vocabulary

from .masks import UNLABELLED, write_mask
from .read_formats import DAMAGE, read_labels
from .write_formats import file_below, name_of

CLASSES = 'classes.txt'  # written beside the masks


def convert(json: str | Path, photos: str | Path, out: str | Path) -> None:
    """Write a mask PNG for each annotated photo, and `classes.txt`.

    Masks hold the classes in the order of COCO's ids, from 0, and 255 where nobody labelled. Where
    annotations overlap, the smaller one is in front.

    Args:
        json: 'images', 'annotations' with 'segmentation', and 'categories'.
        photos: the folder that the names in 'images' are below.
        out: folder of the masks, which are named as the photos.

    Raises:
        UserError: more than 255 classes, or see `read_labels`.
    """
    words, listed = _classes(json), list_photos(photos)
    if len(words) > UNLABELLED:
        raise UserError(f'{json} has {len(words)} categories; masks hold at most {UNLABELLED}')
    folder, pixels, masks = output_dir(out), np.zeros(256, np.int64), 0
    with Progress(len(listed), 'masks', unit='mask') as progress:
        for photo, labels in read_labels(json, listed, words, root=photos):
            counts = np.bincount(labels.ravel(), minlength=256)
            if counts[UNLABELLED] < labels.size:
                name = f'{name_of(file_below(photo, photos))}.png'
                write_mask(path_below(folder, name, photos), labels, words.palette)
                pixels, masks = pixels + counts, masks + 1
            progress.update()
    lines = [f'{x}: {prompts[0]}\n' for x, prompts in zip(words.labels, words.prompts)]
    write_text(folder / CLASSES, ''.join(lines))
    print(f'{masks} masks of {len(listed)} photos, and {CLASSES}, written to {folder}')
    labelled = max(pixels[: len(words)].sum(), 1)
    for name, count in zip(words.labels, pixels):
        print(f'{count / labelled:7.2%} of the labelled pixels: {name}')


def _classes(json: str | Path) -> Vocabulary:
    """Read the categories; an underscore in a name is a blank for CLIP."""
    try:
        rows = [row for key, row in json_elements(json) if key == 'categories']
        names = [str(row['name']) for row in sorted(rows, key=lambda row: row['id'])]
    except DAMAGE as error:
        raise UserError(f'{json} cannot be read as a JSON of COCO: {reason_of(error)}') from error
    if not names:
        raise UserError(f'{json} names no categories: it is no JSON of COCO')
    return load_vocabulary([f'{name}: {name.replace("_", " ")}' for name in names])
