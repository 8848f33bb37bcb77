"""From what a user names to units of work: folders, photos, tars, lists of tars."""

from pathlib import Path

from mmseg.datasets.reading import list_photos
from mmseg.errors import UserError

from .units import PhotoUnit, TarUnit

CHUNK = 64  # photos of a folder's unit


def find_units(source, out):
    """A folder, a photo, a tar, a pattern of tars or a list of them -> units, in a fixed order.

    Labels of `folder/a/b.jpg` go to `out/a/b.png`, those of a shard `x.tar` to `out/x.tar`. A list
    is a .txt with a path a line.

    Raises:
        UserError: nothing there, or two inputs whose labels would have one name.
    """
    tars = _tars(Path(source))
    if tars:
        pairs = [(str(tar), str(Path(out, f'{tar.name.partition(".")[0]}.tar'))) for tar in tars]
        _require_unique(pairs)
        return [TarUnit(*pair) for pair in pairs]
    photos = list_photos(source)
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    return photo_units([(p, Path(out, p.relative_to(root).with_suffix('.png'))) for p in photos])


def photo_units(pairs):
    """(photo, label PNG) paths -> PhotoUnits"""
    pairs = [(str(photo), str(target)) for photo, target in pairs]
    _require_unique(pairs)
    return [PhotoUnit(tuple(pairs[i : i + CHUNK])) for i in range(0, len(pairs), CHUNK)]


def _tars(source):
    if source.suffix == '.txt' and source.is_file():
        paths = [Path(line.strip()) for line in source.read_text().splitlines() if line.strip()]
        for path in paths:
            if not path.is_file():
                raise UserError(f'{source} names {path}, which does not exist')
        return paths
    if '.tar' in source.suffixes or source.suffix == '.tgz':
        found = [source] if source.is_file() else sorted(source.parent.glob(source.name))
        if not found:
            raise UserError(f'no such tar: {source}')
        return found
    return sorted(source.glob('*.tar')) if source.is_dir() else []


def _require_unique(pairs):
    first = {}
    for source, target in pairs:
        if target in first:
            raise UserError(
                f'the labels of {first[target]} and {source} would both be {target}; rename one'
            )
        first[target] = source
