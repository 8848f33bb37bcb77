"""Label files that are whole or missing, whoever else writes them, and no remains of kills."""

import os
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

from mmseg.errors import UserError
from mmseg.utils import atomic_path
from mmseg.utils.files import PART


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
