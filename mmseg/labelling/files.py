"""Label files that are whole or missing and know their photo, and no remains of kills."""

import hashlib
import os
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

from mmseg.errors import UserError
from mmseg.utils import atomic_path
from mmseg.utils.files import PART

BLOCK, BLOCKS = 4096, 5  # bytes of a sample, samples of a file


def content_of(path) -> str:
    """A photo or a shard -> 'size-digest', the digest of evenly spaced samples, both ends included.

    A run that goes on asks for this of every photo, so at most 20 KB are read. Times of files do
    not count: copies of a data set have others. What is no file, such as a scene of the miniature,
    is its name.
    """
    try:
        with open(path, 'rb') as file:
            size, sha = os.fstat(file.fileno()).st_size, hashlib.sha256()
            for i in range(BLOCKS):
                file.seek(max(0, size - BLOCK) * i // (BLOCKS - 1))
                sha.update(file.read(BLOCK))
    except OSError:  # its reader says what is wrong
        return str(path)
    return f'{size}-{sha.hexdigest()[:32]}'


@contextmanager
def whole_file(path):
    """`atomic_path` for what several processes may write at once, on any machines: the same labels.

    A temporary file that another has removed by `remove_parts` is not missed if `path` is there.
    """
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except UserError as error:
        if not (isinstance(error.__cause__, FileNotFoundError) and Path(path).exists()):
            raise


def remove_parts(paths):
    """Remove what killed processes left of these files; each folder is looked through once."""
    folders = defaultdict(set)
    for path in map(Path, paths):
        folders[path.parent].add(path.name)
    for folder, names in folders.items():
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                found = PART.fullmatch(entry.name)
                if found and found['stem'] + found['suffix'] in names:
                    Path(entry.path).unlink(missing_ok=True)
