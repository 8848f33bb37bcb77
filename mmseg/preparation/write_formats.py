"""Write label PNGs in the formats of annotation tools.

A region is a connected set of pixels of one class (8 neighbours). Its outline follows the edges of
its pixels. Where a format has one polygon per region, a hole is joined to the outline by a slit
without area. Pixels without a label are left out.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from mmseg.datasets.reading import photo_size, read_mask
from mmseg.errors import UserError
from mmseg.structures import ignore_label
from mmseg.utils import Progress, atomic_path
from mmseg.vocabularies import Vocabulary
from mmseg.vocabularies.vocabulary import distinct_palette

Pair = tuple[str | Path, str | Path]  # (photo, label PNG)


class LabelledPhoto(NamedTuple):
    """A photo and its labels.

    Attributes:
        path: of the photo.
        file: its path below the folder of all photos, such as 'a/b.jpg'.
        labels: (H, W) class ids, `ignore_label` for none.
    """

    path: Path
    file: str
    labels: NDArray

    @property
    def name(self) -> str:
        return name_of(self.file)


class Region(NamedTuple):
    """A region of a class: its outline, and the number of holes that slits join to it.

    Attributes:
        outline: (n, 2) x and y, in pixels of the label map at twice its size.
    """

    label: int
    outline: NDArray[np.int64]
    holes: int

    def edges(self) -> NDArray:
        """Return the polygon (n, 2) of x and y along the edges of the pixels, as COCO fills it."""
        points = (self.outline + 1) // 2
        return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]

    def pixels(self) -> NDArray:
        """Return the polygon (n, 2) of x and y through the outermost pixels, of YOLO and labelme.

        These tools cut or round points to whole pixels, and fill a polygon with its border.
        """
        return self.outline // 2 + np.where(self.outline % 2, 0.4, 0.1)


def write_labels(
    file_format: str,
    pairs: Sequence[Pair],
    vocabulary: Vocabulary,
    out: str | Path,
    *,
    root: str | Path,
) -> None:
    """Write label PNGs in another format, whole or not at all.

    Args:
        file_format: a key of WRITERS; 'png' writes nothing.
        pairs: (photo, label PNG) paths.
        vocabulary: the classes.
        out: the folder to make.
        root: the folder that holds all photos; files are named as the photos below it.

    Raises:
        UserError: see `check_format`; or a file cannot be read or written.
    """
    if file_format == 'png':
        return
    check_format(file_format, [photo for photo, _ in pairs], vocabulary, out, root=root)

    def photos() -> Iterator[LabelledPhoto]:
        with Progress(len(pairs), f'write {file_format}', unit='photo') as progress:
            for photo, png in pairs:
                labels = read_mask(png, photo_size(photo), num_classes=len(vocabulary))
                yield LabelledPhoto(Path(photo), file_below(photo, root), labels)
                progress.update()

    with atomic_path(out) as temporary:
        temporary.mkdir()
        WRITERS[file_format](photos(), vocabulary, temporary)
    print(f'labels of {len(pairs)} photos written as {file_format} to {out}')


def check_format(
    file_format: str,
    photos: Iterable[str | Path],
    vocabulary: Vocabulary,
    out: str | Path,
    *,
    root: str | Path,
) -> None:
    """Find what would stop `write_labels`, whose arguments these are, before photos are labelled.

    Raises:
        UserError: an unknown format, the folder exists, a photo is no file, two photos would have
            one name, or the format does not take the name of a class.
    """
    if file_format == 'png':
        return
    if file_format not in WRITERS:
        raise UserError(f'no format {file_format!r}; there are png, {", ".join(WRITERS)}')
    if os.path.lexists(out):
        raise UserError(f'{out} exists; move it away, since it may hold corrections by hand')
    photo_of: dict[str, Path] = {}
    for path in map(Path, photos):
        if not path.is_file():
            raise UserError(f'{path} is no file, which formats other than png need')
        name = name_of(file_below(path, root))
        if name.startswith(f'{Path(out).name}/'):
            raise UserError(f'the labels of {path} would be in {out}, which is for {file_format}')
        if name in photo_of and file_format != 'coco':
            both = f'{photo_of[name]} and {path}'
            raise UserError(f'the labels of {both} would both be named {name}; rename one')
        photo_of[name] = path
    for label in vocabulary.labels if file_format == 'cvat' else ():
        if ':' in label or label.startswith('#'):
            raise UserError(f'cvat takes no class {label!r}: a name has no ":", and "#" not first')


def file_below(photo: str | Path, root: str | Path) -> str:
    """Return the path of a photo below a folder: 'a/b.jpg'."""
    return Path(os.path.relpath(photo, root)).as_posix()


def name_of(file: str) -> str:
    """Return 'a/b' for 'a/b.jpg'."""
    return Path(file).with_suffix('').as_posix()


def regions_of(labels: NDArray, num_classes: int) -> list[Region]:
    """Find the regions of (H, W) labels. A region comes before those that lie inside it."""
    found = []
    for label in np.unique(labels[labels < num_classes]):
        mask = (labels == label).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        lines = [contour[:, 0].astype(np.int64) for contour in contours]
        holes = defaultdict(list)
        for line, (*_, parent) in zip(lines, hierarchy[0]):
            holes[parent].append(line)  # those of -1 are outer contours
        for i, line in enumerate(lines):
            if hierarchy[0, i, 3] < 0:
                outline = _corners(_joined(line, holes[i], mask))
                area = cv2.contourArea(contours[i])
                found.append((area, Region(int(label), outline, len(holes[i]))))
    return [region for _, region in sorted(found, key=lambda pair: -pair[0])]


def _joined(outer: NDArray, holes: Iterable[NDArray], mask: NDArray) -> NDArray:
    """Join the contours of holes to the outer one, each by a slit to the left from its left end.

    The slit runs through pixels of the region, up to a contour that was joined before.
    """
    for hole in sorted(holes, key=lambda points: int(points[:, 0].min())):
        start = int(hole[:, 0].argmin())
        x, y = hole[start]
        outside = np.flatnonzero(mask[y, :x] == 0)
        left = outside[-1] + 1 if len(outside) else 0
        at = int((outer == (left, y)).all(axis=1).argmax())
        around = np.roll(hole, -start, axis=0)
        outer = np.concatenate([outer[: at + 1], around, around[:1], outer[at:]])
    return outer


def _corners(points: NDArray) -> NDArray:
    """Leave out points at which a closed line goes straight on."""
    step = np.sign(points - np.roll(points, 1, axis=0))
    return points[(step != np.roll(step, -1, axis=0)).any(axis=1)]


def _new(path: Path) -> Path:
    """Make the folder of a file to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_coco(photos: Iterable[LabelledPhoto], vocabulary: Vocabulary, out: Path) -> None:
    """Write annotations.json: a polygon per region, or run lengths of one that has holes."""
    categories = [dict(id=i, name=name) for i, name in enumerate(vocabulary.labels, start=1)]
    images, count = [], 0
    with open(out / 'annotations.json', 'w', encoding='utf-8') as file:
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')
        for i, photo in enumerate(photos, start=1):
            height, width = photo.labels.shape
            images.append(dict(id=i, file_name=photo.file, height=height, width=width))
            for region in regions_of(photo.labels, len(vocabulary)):
                polygon = region.edges().ravel().tolist()
                (runs,) = coco.frPyObjects([polygon], height, width)
                row: dict[str, Any] = dict(id=count + 1, image_id=i, iscrowd=0)
                row |= dict(category_id=region.label + 1, segmentation=[polygon])
                row |= dict(area=int(coco.area(runs)), bbox=coco.toBbox(runs).tolist())
                if region.holes:
                    row['segmentation'] = dict(runs, counts=runs['counts'].decode())
                file.write((',\n' if count else '\n') + json.dumps(row))
                count += 1
        file.write(f'],\n"images": {json.dumps(images)}}}\n')


def _write_yolo(photos: Iterable[LabelledPhoto], vocabulary: Vocabulary, out: Path) -> None:
    """Write data.yaml, labels/ with a polygon a line, and images/ as links to the photos' files."""
    data = dict(train='images', val='images', names=dict(enumerate(vocabulary.labels)))
    text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
    (out / 'data.yaml').write_text(text, encoding='utf-8')
    for photo in photos:
        sides = photo.labels.shape[::-1]
        with open(_new(out / 'labels' / f'{photo.name}.txt'), 'w') as file:
            for region in regions_of(photo.labels, len(vocabulary)):
                fractions = (region.pixels() / sides).ravel()
                file.write(f'{region.label} {" ".join(f"{x:.7g}" for x in fractions)}\n')
        source, target = photo.path.resolve(), _new(out / 'images' / photo.file)
        try:
            os.link(source, target)
        except OSError:  # of another disk, or another user
            shutil.copyfile(source, target)


def _write_labelme(photos: Iterable[LabelledPhoto], vocabulary: Vocabulary, out: Path) -> None:
    """Write a JSON per photo, with a polygon per region."""
    for photo in photos:
        path = _new(out / f'{photo.name}.json')
        shapes = []
        for region in regions_of(photo.labels, len(vocabulary)):
            points = region.pixels().tolist()
            shape = dict(label=vocabulary.labels[region.label], points=points, group_id=None)
            shapes.append(shape | dict(description='', shape_type='polygon', flags={}))
        height, width = photo.labels.shape
        content: dict[str, Any] = dict(version='5.5.0', flags={}, shapes=shapes, imageData=None)
        content |= dict(imagePath=os.path.relpath(photo.path, path.parent))
        path.write_text(json.dumps(content | dict(imageHeight=height, imageWidth=width)))


def _write_cvat(photos: Iterable[LabelledPhoto], vocabulary: Vocabulary, out: Path) -> None:
    """Write 'Segmentation mask 1.1': labelmap.txt, the list of photos, masks in colours.

    CVAT skips black objects, and none else, so each class of a photo is an object.
    """
    palette, names = list(vocabulary.palette), list[str]()
    if len({*palette, (0, 0, 0)}) <= len(palette):
        palette = list(distinct_palette(len(palette)))
    void = 'unlabelled' if 'background' in vocabulary.labels else 'background'
    while void in vocabulary.labels:
        void += '_'
    lines = ['# label:color_rgb:parts:actions', f'{void}:0,0,0::']
    lines += [f'{x}:{r},{g},{b}::' for x, (r, g, b) in zip(vocabulary.labels, palette)]
    (out / 'labelmap.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    classes = np.zeros((ignore_label(len(palette)) + 1, 3), np.uint8)
    classes[: len(palette)] = palette
    for photo in photos:
        names.append(photo.name)
        present = np.unique(photo.labels[photo.labels < len(palette)])
        objects = np.zeros_like(classes)
        objects[present] = np.reshape(distinct_palette(len(present)), (-1, 3))
        for folder, colours in (('SegmentationClass', classes), ('SegmentationObject', objects)):
            path = _new(out / folder / f'{photo.name}.png')
            Image.fromarray(colours[photo.labels]).save(path)
    listed = _new(out / 'ImageSets' / 'Segmentation' / 'default.txt')
    listed.write_bytes(b''.join(os.fsencode(f'{name}\n') for name in names))


WRITERS: dict[str, Callable[[Iterable[LabelledPhoto], Vocabulary, Path], None]] = {
    'coco': _write_coco,
    'yolo-seg': _write_yolo,
    'labelme': _write_labelme,
    'cvat': _write_cvat,
}
