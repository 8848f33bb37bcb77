"""Units of work: some photos of a folder, or a tar of photos. A unit is done, or done again.

What is there already is whole (written beside, then renamed) and says of which photo or shard it
is, by content. So a run that was killed goes on with what is missing or has changed. Processes
share the units out; if two are given one after all, both write it.
"""

import io
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg.datasets.pseudo_labels import CONFIDENCE
from mmseg.datasets.reading import read_photo
from mmseg.errors import UserError
from mmseg.utils import atomic_path

from .files import content_of
from .shards import DamagedShard, photos_of
from .stream import in_order

THREADS, AHEAD = 4, 16  # that read and write, and how far they may be ahead of the network
CONTENT = 'comment'  # the entry of a PNG, or of a tar's global header, that holds `content_of`


class PhotoUnit(NamedTuple):
    """Photos of a folder: (photo, label PNG) paths."""

    pairs: tuple

    def missing(self):
        """-> the pairs whose labels are not written yet, or are of what the photo was before"""
        return _missing(self.pairs)

    def label(self, labeller, pairs):
        """Some of its pairs -> (photos labelled, errors)"""
        errors = []

        def load(pair):
            photo, target = pair
            return (target, content_of(photo)), _read_or_error(labeller.read, photo)

        def save(item):
            (target, content), found = item
            about = PngInfo()
            about.add_text(CONTENT, content)
            for name, image in _files(Path(target), found):
                with atomic_path(name) as temporary:
                    image.save(temporary, pnginfo=about)

        loaded = in_order(load, pairs, threads=THREADS, ahead=AHEAD)
        saved = in_order(save, labeller.stream(_good(loaded, errors)), threads=THREADS, ahead=AHEAD)
        return sum(1 for _ in saved), errors


class TarUnit(NamedTuple):
    """A tar of photos (a WebDataset shard), and the tar of label PNGs that it becomes."""

    source: str
    target: str

    @property
    def pairs(self):
        return (tuple(self),)

    def missing(self):
        return _missing(self.pairs)

    def label(self, labeller, _):
        """-> (photos labelled, errors); the photos are streamed, in no more memory than a few"""
        errors, count = [], 0
        about = {CONTENT: content_of(self.source)}
        with atomic_path(self.target) as temporary:
            with tarfile.open(temporary, 'w', pax_headers=about) as out:
                loaded = in_order(
                    self._decode, photos_of(self.source), threads=THREADS, ahead=AHEAD
                )
                labelled = labeller.stream(_good(loaded, errors))
                encoded = in_order(_as_png, labelled, threads=THREADS, ahead=AHEAD)
                for files in encoded:
                    for name, data in files:
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        out.addfile(member, io.BytesIO(data))
                    count += 1
        return count, errors

    def _decode(self, member):
        key, name, data = member
        return key, _read_or_error(read_photo, f'{self.source}/{name}', file=io.BytesIO(data))


def _missing(pairs):
    looked = in_order(_is_labelled, pairs, threads=THREADS, ahead=AHEAD)
    return tuple(pair for pair, done in zip(pairs, looked) if not done)


def _is_labelled(pair):
    """(source, target) -> whether the labels say that they are of what the source is now"""
    source, target = pair
    try:
        if target.endswith('.tar'):
            with tarfile.open(target, 'r:') as tar:
                content = tar.pax_headers.get(CONTENT)
        else:
            with Image.open(target, formats=['PNG']) as image:
                content = image.info.get(CONTENT)
    except (OSError, tarfile.TarError):  # no labels, or not ours
        return False
    return content is not None and content == content_of(source)


def _files(target, found):
    """Where the labels go, Labelled -> [(path, image)]; the labels last: they say that all is."""
    images = [(target, found.labels)]
    if found.confidence is not None:
        images.insert(0, (target.with_suffix(CONFIDENCE), found.confidence))
    return images


def _read_or_error(read, path, **options):
    try:
        return read(path, **options)
    except UserError as error:
        return error


def _good(loaded, errors):
    """(key, image or UserError) items -> those with an image; the errors are said and kept"""
    for key, image in loaded:
        if isinstance(image, Image.Image):
            yield key, image
        else:
            print(f'skipped: {image}', file=sys.stderr)
            errors.append(str(image))


def _as_png(item):
    """(key, Labelled) -> [(name, bytes)]"""
    key, found = item
    encoded = []
    for name, image in _files(Path(f'{key}.png'), found):
        buffer = io.BytesIO()
        image.save(buffer, 'png')
        encoded.append((str(name), buffer.getvalue()))
    return encoded


def label_unit(unit, labeller):
    """What every engine calls -> {'photos': number, 'errors': texts, 'shards': damaged ones}.

    A unit that is done costs nothing. A damaged shard is said and left out; it stays missing.
    """
    result = dict(photos=0, errors=[], shards=[])
    try:
        missing = unit.missing()
        if missing:
            result['photos'], result['errors'] = unit.label(labeller, missing)
    except DamagedShard as error:
        print(f'skipped: {error}', file=sys.stderr)
        result['shards'].append(unit.source)
    return result
