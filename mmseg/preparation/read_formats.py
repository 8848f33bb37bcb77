"""Read labels from the formats of annotation tools.

Where polygons overlap, the smaller one is in front; in labelme, the later one.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from mmseg.datasets.pseudo_labels import RECORD
from mmseg.datasets.reading import photo_size, read_mask
from mmseg.errors import UserError
from mmseg.structures import ignore_label
from mmseg.utils import nearest, path_below, read_image, read_json, reason_of, short_repr
from mmseg.utils.json_stream import json_elements
from mmseg.vocabularies import Vocabulary

from .pascal_context import SIDE, decode_outline, outline_of
from .write_formats import file_below, name_of

IGNORED = '__ignore__'  # labelme's class of pixels without a label
Size = tuple[int, int]  # (H, W)
Labels = NDArray[np.int32]
Photo = str | Path
Reader = Callable[[str, Photo], NDArray | None]  # of a photo's name below the root, and its path
DAMAGE = (OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError)


def read_labels(
    path: str | Path, photos: Sequence[Photo], vocabulary: Vocabulary, *, root: str | Path
) -> Iterator[tuple[Photo, NDArray]]:
    """Read labels of photos; a photo without labels is left out.

    Args:
        path: a folder of label PNGs or of labelme's JSONs, a JSON of COCO, a data.yaml of YOLO, a
            folder of CVAT's 'Segmentation mask 1.1'; or any folder of `write_labels`.
        photos: paths of the photos.
        vocabulary: the classes; PNGs hold their ids, other formats their names.
        root: the folder that holds all photos; labels are found by the photos' names below it.

    Yields:
        (photo, (H, W) labels), `ignore_label` where the format has no region.

    Raises:
        UserError: a file cannot be read, is of another size than its photo, or names a class that
            is not in the vocabulary; or there are no labels of any of the photos.
    """
    files = {file_below(photo, root): photo for photo in photos}
    read, count = _reader(Path(path), files, vocabulary), 0
    dtype = np.uint8 if ignore_label(len(vocabulary)) == 255 else np.int32
    for file, photo in files.items():
        labels = read(file, photo)
        if labels is not None:
            count += 1
            yield photo, labels.astype(dtype)
    if not count:
        such = f', such as {next(iter(files))}' if files else ''
        raise UserError(f'{path} has no labels of the {len(files)} photos of {root}{such}')


def _reader(path: Path, files: Mapping[str, Photo], vocabulary: Vocabulary) -> Reader:
    """Recognise the format, read what all photos share, and return the reader of a photo."""
    if path.suffix.lower() == '.json':
        return _coco_reader(path, vocabulary)
    if path.suffix.lower() in ('.yaml', '.yml'):
        return _yolo_reader(path, vocabulary)
    if (path / 'annotations.json').is_file():
        return _coco_reader(path / 'annotations.json', vocabulary)
    if (path / 'data.yaml').is_file():
        return _yolo_reader(path / 'data.yaml', vocabulary)
    if (path / 'labelmap.txt').is_file():
        return _cvat_reader(path, vocabulary)
    if not path.is_dir():
        raise UserError(
            f'no labels at {path}; name a folder of label PNGs or labelme JSONs, a JSON of COCO, a '
            'data.yaml of YOLO, or a folder of CVAT'
        )
    photos = {Path(photo).absolute() for photo in files.values()}
    pngs = [path.absolute() / f'{name_of(file)}.png' for file in files]
    if any(png.is_file() and png not in photos for png in pngs):
        return _png_reader(path, vocabulary)
    return _labelme_reader(path, vocabulary)


class _Classes:
    """Ids of the class names that a file holds."""

    def __init__(self, vocabulary: Vocabulary, source: Path) -> None:
        self.ids = {name: i for i, name in enumerate(vocabulary.labels)}
        self.source, self.ignored = source, ignore_label(len(vocabulary))

    def __getitem__(self, name: Any) -> int:
        if not isinstance(name, str) or name not in self.ids:
            raise UserError(
                f'{self.source} names the class {short_repr(name)}, which is none of the '
                f'{len(self.ids)} classes{nearest(name, self.ids)}; add it to them'
            )
        return self.ids[name]

    def unlabelled(self, size: Size) -> Labels:
        return np.full(size, self.ignored, np.int32)


def _damaged(path: Path, what: str, error: Exception) -> UserError:
    reason = f'it lacks {error}' if isinstance(error, KeyError) else reason_of(error)
    return UserError(f'{path} cannot be read as {what}: {reason}')


def _require_size(path: Path, file: str, shape: Any, size: Size) -> None:
    if shape != size:
        raise UserError(f'{path}: {file} is {shape[1]}x{shape[0]}, the photo {size[1]}x{size[0]}')


def _png_reader(path: Path, vocabulary: Vocabulary) -> Reader:
    record = read_json(path / RECORD) if (path / RECORD).is_file() else {}
    classes = record.get('classes') if isinstance(record, dict) else None
    difference = vocabulary.difference(classes) if isinstance(classes, list) else ''
    if difference:
        raise UserError(f'the labels of {path} are of other classes: {difference}')

    def read(file: str, photo: Photo) -> NDArray | None:
        png = path / f'{name_of(file)}.png'
        if not png.is_file():
            return None
        return read_mask(png, photo_size(photo), num_classes=len(vocabulary))

    return read


def _coco_reader(path: Path, vocabulary: Vocabulary) -> Reader:
    images: dict[str, tuple[Any, Any]] = {}
    names: dict[Any, Any] = {}
    outlines: dict[Any, list[tuple[float, Any, Any]]] = defaultdict(list)
    try:
        for key, row in json_elements(path):
            if key == 'images':
                images[row['file_name']] = row['id'], (row['height'], row['width'])
            elif key == 'categories':
                names[row['id']] = row['name']
            elif key == 'annotations':
                *_, width, height = row['bbox'] if 'area' not in row else (0, 0)
                area = float(row.get('area', width * height))
                outline = outline_of(row['segmentation'])
                outlines[row['image_id']].append((area, row['category_id'], outline))
    except DAMAGE as error:
        raise _damaged(path, 'a JSON of COCO', error) from error
    if not images:
        raise UserError(f'{path} cannot be read as a JSON of COCO: it has no images')
    classes = _Classes(vocabulary, path)

    def read(file: str, photo: Photo) -> NDArray | None:
        if file not in images:
            return None
        (key, shape), size = images[file], photo_size(photo)
        _require_size(path, file, shape, size)
        labels = classes.unlabelled(size)
        for _, category, outline in sorted(outlines[key], key=lambda row: -row[0]):
            label = classes[names.get(category)]
            try:
                labels[decode_outline(outline, size)] = label
            except Exception as error:  # pycocotools' errors have no common type
                raise _damaged(path, f'annotations of {file}', error) from error
        return labels

    return read


def _yolo_reader(path: Path, vocabulary: Vocabulary) -> Reader:
    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
        listed = data['names']
        rows = listed.items() if isinstance(listed, dict) else enumerate(listed)
        names, folders = {int(key): str(name) for key, name in rows}, _label_folders(path, data)
    except (*DAMAGE, yaml.YAMLError) as error:
        raise _damaged(path, 'a data.yaml of YOLO', error) from error
    classes = _Classes(vocabulary, path)

    def read(file: str, photo: Photo) -> NDArray | None:
        texts = [folder / f'{name_of(file)}.txt' for folder in folders]
        text = next((text for text in texts if text.is_file()), None)
        if text is None:
            return None
        size = photo_size(photo)
        labels = classes.unlabelled(size)
        for key, points in _yolo_polygons(text, size):
            _fill(labels, points, classes[names.get(key, f'number {key}')])
        return labels

    return read


def _label_folders(path: Path, data: Mapping[str, Any]) -> list[Path]:
    """List the folders of labels beside YOLO's folders of photos: the last images/ is labels/."""
    root = path.parent
    if data.get('path') not in (None, '', '.', './'):
        root = path_below(root, data['path'], path)
    folders = [root / 'labels']
    for key in ('train', 'val', 'test'):
        named = data.get(key) or []
        for name in [named] if isinstance(named, str) else named:
            # '../train/images' means 'train/images', as in ultralytics
            images = path_below(root, name.removeprefix('../'), path)
            first, found, last = f'{images}/'.rpartition('/images/')
            folders += [Path(f'{first}/labels/{last}')] if found else []
        folders.append(root / 'labels' / key)
    return folders


def _yolo_polygons(path: Path, size: Size) -> list[tuple[int, NDArray]]:
    """Read lines 'class x y x y x y ...' of fractions as (class, (n, 2) pixels), large first."""
    polygons = []
    try:
        for line in filter(str.strip, path.read_text(encoding='utf-8-sig').splitlines()):
            key, *numbers = line.split()
            points = np.array(numbers, np.float32).reshape(-1, 2)
            if len(points) < 3:
                raise ValueError('a box, or a polygon of less than three points')
            if not (np.abs(points - 0.5) <= 0.51).all():
                raise ValueError('a point outside of 0..1')
            polygons.append((int(key), points * np.array(size[::-1], np.float32)))
    except DAMAGE as error:
        raise _damaged(path, 'polygons of YOLO', error) from error
    return sorted(polygons, key=lambda polygon: -cv2.contourArea(polygon[1]))


def _fill(labels: Labels, points: NDArray, label: int) -> None:
    """Fill a polygon of (n, 2) x and y and its border, cut to whole pixels as the tools do."""
    cv2.fillPoly(labels, [np.floor(points).astype(np.int32)], label)


def _labelme_reader(path: Path, vocabulary: Vocabulary) -> Reader:
    def read(file: str, photo: Photo) -> NDArray | None:
        source = path / f'{name_of(file)}.json'
        if not source.is_file():
            return None
        size, content = photo_size(photo), read_json(source)
        classes = _Classes(vocabulary, source)
        classes.ids.setdefault(IGNORED, classes.ignored)
        labels = classes.unlabelled(size)
        try:
            shape = content.get('imageHeight'), content.get('imageWidth')
            _require_size(source, file, shape if all(shape) else size, size)
            for item in content['shapes']:
                _fill_shape(labels, item, classes[item['label']], source)
        except DAMAGE as error:
            raise _damaged(source, 'labels of labelme', error) from error
        return labels

    return read


def _fill_shape(labels: Labels, shape: Mapping[str, Any], label: int, source: Path) -> None:
    """Fill a polygon, rectangle or mask of labelme."""
    kind, points = shape['shape_type'], np.array(shape['points'], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) <= SIDE).all():
        raise ValueError(f'points {short_repr(shape["points"])}')
    if kind == 'polygon' and len(points) > 2:
        _fill(labels, points, label)
    elif kind == 'rectangle' and len(points) == 2:
        (left, top), (right, bottom) = points
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        _fill(labels, np.array(corners), label)
    elif kind == 'mask' and len(points) == 2:
        data = io.BytesIO(base64.b64decode(shape['mask']))
        mask = read_image(source, lambda image: np.array(image.convert('L')) > 0, data)
        left, top = points[0].astype(int).clip(0)
        labels[top:, left:][: mask.shape[0], : mask.shape[1]][mask] = label
    else:
        raise ValueError(f'a {kind} of {len(points)} points; it reads polygon, rectangle, mask')


def _cvat_reader(path: Path, vocabulary: Vocabulary) -> Reader:
    source = path / 'labelmap.txt'
    names, classes = dict[int, str](), _Classes(vocabulary, source)
    try:
        for line in source.read_text(encoding='utf-8').splitlines():
            if line.strip() and not line.startswith('#'):
                name, colour, *_ = line.strip().split(':')
                red, green, blue = map(int, colour.split(','))
                names[red << 16 | green << 8 | blue] = name
    except DAMAGE as error:
        raise _damaged(source, 'a labelmap of CVAT', error) from error
    if names.get(0) not in vocabulary.labels:  # black: pixels without a label
        classes.ids[names.setdefault(0, 'background')] = classes.ignored

    def read(file: str, photo: Photo) -> NDArray | None:
        png = path / 'SegmentationClass' / f'{name_of(file)}.png'
        if not png.is_file():
            return None
        colours = read_image(png, lambda image: np.array(image.convert('RGB'), np.int32))
        size = photo_size(photo)
        _require_size(png, file, colours.shape[:2], size)
        keys, index = np.unique(colours @ (1 << 16, 1 << 8, 1), return_inverse=True)
        unknown = [key for key in keys.tolist() if key not in names]
        if unknown:
            raise UserError(f'{png} has the colour #{unknown[0]:06x}, which {source} lacks')
        ids = np.array([classes[names[key]] for key in keys.tolist()], np.int32)
        return ids[index.reshape(size)]

    return read
