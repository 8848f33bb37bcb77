"""Units of work: some photos of a folder, or a tar of photos. A unit is done whole or done again.

Labels are written under a temporary name and renamed, and name the content of their photo or
shard. So a killed run continues with missing and changed photos. If two processes get
the same unit, both write it.
"""

import glob
import hashlib
import io
import os
import re
import sys
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg.datasets.pseudo_labels import CONFIDENCE
from mmseg.datasets.reading import list_photos, read_photo
from mmseg.errors import UserError
from mmseg.utils import atomic_path
from mmseg.utils.images import LABEL_PNG, encoded

from .shards import DamagedShard, photos_of

if TYPE_CHECKING:
    from .labeller import Labelled, Labeller

THREADS, AHEAD = 4, 16  # readers and writers, and the items that they may be ahead
CONTENT = 'comment'  # the entry of a PNG, or of a tar's global header, that holds `content_of`
TAR_HEADER = 2 * tarfile.BLOCKSIZE  # bytes of the global header of a tar of labels
CHUNK = 64  # photos of a folder's unit
BLOCK, BLOCKS = 4096, 5  # bytes of a sample, samples of a file
Item = TypeVar('Item')
Result = TypeVar('Result')


class PhotoUnit(NamedTuple):
    """Photos of a folder: (photo, label PNG) paths."""

    pairs: tuple[tuple[str, str], ...]

    def label(
        self, labeller: 'Labeller', pairs: Iterable[tuple[str, str]]
    ) -> tuple[int, list[str]]:
        """Label some of the pairs; return the number of photos labelled, and errors."""
        errors: list[str] = []

        def load(pair: tuple[str, str]) -> tuple[Any, Image.Image | UserError]:
            photo, target = pair
            return (target, content_of(photo)), _read_or_error(labeller.read, photo)

        def save(item: tuple[Any, 'Labelled']) -> None:
            (target, content), labelled = item
            info = PngInfo()
            info.add_text(CONTENT, content)
            for name, image in _output_files(Path(target), labelled):
                with atomic_path(name) as temporary:
                    image.save(temporary, pnginfo=info, **LABEL_PNG)

        loaded = in_order(load, pairs, threads=THREADS, ahead=AHEAD)
        stream = labeller.stream(_readable(loaded, errors))
        saved = in_order(save, stream, threads=THREADS, ahead=AHEAD)
        return sum(1 for _ in saved), errors


class TarUnit(NamedTuple):
    """A tar of photos (a WebDataset shard), and the tar of label PNGs that it becomes."""

    source: str
    target: str

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return ((self.source, self.target),)

    def label(self, labeller: 'Labeller', _: object) -> tuple[int, list[str]]:
        """Label all photos, a few in memory at a time; return their number, and errors."""
        errors: list[str] = []
        count = 0
        headers = {CONTENT: content_of(self.source)}
        with atomic_path(self.target) as temporary:
            with tarfile.open(temporary, 'w', pax_headers=headers) as out:
                photos = photos_of(self.source)
                loaded = in_order(self._decode, photos, threads=THREADS, ahead=AHEAD)
                labelled = labeller.stream(_readable(loaded, errors))
                for files in in_order(_as_png, labelled, threads=THREADS, ahead=AHEAD):
                    for name, data in files:
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        out.addfile(member, io.BytesIO(data))
                    count += 1
        return count, errors

    def _decode(self, member: tuple[str, str, bytes]) -> tuple[str, Image.Image | UserError]:
        key, name, data = member
        return key, _read_or_error(read_photo, f'{self.source}/{name}', file=io.BytesIO(data))


Unit = PhotoUnit | TarUnit


class TarUnits(Sequence[Unit]):
    """TarUnits that are made when they are asked for: of a million tars only the paths are kept.

    Args:
        sources: paths of tars.
        out: the folder of the labels.
    """

    def __init__(self, sources: Sequence[str], out: str) -> None:
        self.sources, self.out = sources, out

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return TarUnits(self.sources[index], self.out)
        source = self.sources[index]
        name = os.path.basename(source).partition('.')[0]
        return TarUnit(source, f'{self.out}/{name}.tar')


def find_units(source: str | Path, out: str | Path) -> Sequence[Unit]:
    """Split a folder, a photo, a tar, a pattern of tars or a list of them into units, in order.

    Labels of `folder/a/b.jpg` go to `out/a/b.png`, those of a shard `x.tar` to `out/x.tar`. A list
    is a .txt with a path per line.

    Raises:
        UserError: no such file, or two inputs whose labels would have one name.
    """
    tars = TarUnits(_tars(Path(source)), str(out))
    if tars:
        _require_unique(unit.pairs[0] for unit in tars)
        return tars
    photos = list_photos(source)
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    return photo_units((p, Path(out, p.relative_to(root).with_suffix('.png'))) for p in photos)


def photo_units(pairs: Iterable[tuple[str | Path, str | Path]]) -> Sequence[Unit]:
    """Split (photo, label PNG) paths into PhotoUnits.

    Raises:
        UserError: two photos whose labels would have one name.
    """
    names = [(str(photo), str(target)) for photo, target in pairs]
    _require_unique(names)
    return [PhotoUnit(tuple(names[i : i + CHUNK])) for i in range(0, len(names), CHUNK)]


def missing_first(units: Sequence[Unit]) -> Sequence[Unit]:
    """Put units without labels first: a continued run labels at once, and checks the rest later."""
    order = sorted(range(len(units)), key=lambda i: os.path.exists(units[i].pairs[-1][1]))
    if isinstance(units, TarUnits):
        return TarUnits([units.sources[i] for i in order], units.out)
    return [units[i] for i in order]


def _tars(source: Path) -> list[str]:
    if source.suffix == '.txt' and source.is_file():
        with source.open() as lines:
            paths = [line.strip() for line in lines if line.strip()]
        for path in paths:
            if not os.path.isfile(path):
                raise UserError(f'{source} names {path}, which does not exist')
        return paths
    if '.tar' in source.suffixes or source.suffix == '.tgz':
        paths = [str(source)] if source.is_file() else sorted(glob.glob(str(source)))
        if not paths:
            raise UserError(f'no such tar: {source}')
        return paths
    return sorted(map(str, source.glob('*.tar'))) if source.is_dir() else []


def _require_unique(pairs: Iterable[tuple[str, str]]) -> None:
    sources: dict[str, str] = {}
    for source, target in pairs:
        if target in sources:
            raise UserError(
                f'the labels of {sources[target]} and {source} would both be {target}; rename one'
            )
        sources[target] = source


def photos_at_hand(
    units: Sequence[Unit], read: Callable[..., Image.Image], count: int = 16
) -> list[str | Image.Image]:
    """Choose some photos of all units, at equal distances: their paths, or what is in no file.

    The same units give the same photos. Damaged shards give none.

    Args:
        read: reads a path that is no file, such as that of a scene.
    """
    some = units[:: -(-len(units) // count)]
    each, found = -(-count // len(some)), list[str | Image.Image | UserError]()
    for unit in some:
        if isinstance(unit, TarUnit):
            with suppress(DamagedShard):
                for _, name, data in islice(photos_of(unit.source), each):
                    found.append(_read_or_error(read_photo, name, file=io.BytesIO(data)))
            continue
        names = [photo for photo, _ in unit.pairs[:: -(-len(unit.pairs) // each)]]
        found += [name if os.path.isfile(name) else _read_or_error(read, name) for name in names]
    return [photo for photo in found if not isinstance(photo, UserError)]


def label_unit(unit: Unit, labeller: 'Labeller') -> dict[str, Any]:
    """Label the missing photos of a unit; a damaged shard is reported and left out.

    Returns:
        {'photos': their number, 'errors': texts, 'shards': paths of damaged ones}.
    """
    result: dict[str, Any] = dict(photos=0, errors=[], shards=[])
    try:
        pairs = missing(unit)
        if pairs:
            result['photos'], result['errors'] = unit.label(labeller, pairs)
    except DamagedShard as error:
        print(f'skipped: {error}', file=sys.stderr)
        result['shards'] += [source for source, _ in unit.pairs]
    return result


def content_of(path: str | Path) -> str:
    """Identify a photo or a shard as 'size-digest', by evenly spaced samples of its bytes.

    A continued run computes this for every photo, so at most 20 KB are read, both ends included.
    Modification times do not count: copies of a data set have others. A path without a file, such
    as a scene of the miniature, is identified by itself.
    """
    try:
        with open(path, 'rb', buffering=0) as file:
            number = file.fileno()
            size = os.fstat(number).st_size
            starts = (max(0, size - BLOCK) * i // (BLOCKS - 1) for i in range(BLOCKS))
            samples = b''.join(os.pread(number, BLOCK, start) for start in starts)
    except OSError:  # its reader reports it
        return str(path)
    return f'{size}-{hashlib.sha256(samples).hexdigest()[:32]}'


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """Yield function(item) in the order of the items, computed by threads up to `ahead` before.

    The items are drawn in the caller's thread, so one such stream may feed another.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def missing(unit: Unit) -> tuple[tuple[str, str], ...]:
    """Return the pairs whose labels are missing, or are of another content of photo or shard."""
    if isinstance(unit, TarUnit):
        return () if _is_labelled(*unit.pairs) else unit.pairs
    labelled = in_order(_is_labelled, unit.pairs, threads=THREADS, ahead=AHEAD)
    return tuple(pair for pair, done in zip(unit.pairs, labelled) if not done)


def _is_labelled(pair: tuple[str, str]) -> bool:
    """Return whether a (source, target) pair's labels name the source's present content."""
    source, target = pair
    try:
        if target.endswith('.tar'):
            with open(target, 'rb', buffering=0) as tar:
                # The first entry; tarfile takes six times as long.
                match = re.search(rf'{CONTENT}=(\S+)\n'.encode(), tar.read(TAR_HEADER))
            content = match and match[1].decode()
        else:
            with Image.open(target, formats=['PNG']) as image:
                content = image.info.get(CONTENT)
    except OSError:  # no labels, or not ours
        return False
    return content is not None and content == content_of(source)


def _output_files(target: Path, labelled: 'Labelled') -> list[tuple[Path, Image.Image]]:
    """List (path, image) to write; the labels last, since they mark the photo as done."""
    images = [(target, labelled.labels)]
    if labelled.confidence is not None:
        images.insert(0, (target.with_suffix(CONFIDENCE), labelled.confidence))
    return images


def _read_or_error(
    read: Callable[..., Image.Image], path: str, **options: Any
) -> Image.Image | UserError:
    try:
        return read(path, **options)
    except UserError as error:
        return error


def _readable(
    loaded: Iterable[tuple[Any, Image.Image | UserError]], errors: list[str]
) -> Iterator[tuple[Any, Image.Image]]:
    """Yield the items that are images; print errors and append them to `errors`."""
    for key, image in loaded:
        if isinstance(image, Image.Image):
            yield key, image
        else:
            print(f'skipped: {image}', file=sys.stderr)
            errors.append(str(image))


def _as_png(item: tuple[str, 'Labelled']) -> list[tuple[str, bytes]]:
    """Encode a (key, Labelled) as [(name, bytes)]."""
    key, labelled = item
    files = _output_files(Path(f'{key}.png'), labelled)
    return [(str(name), encoded(image, 'png', **LABEL_PNG)) for name, image in files]
