"""Label files that are whole or missing, whoever else writes them, and no remains of kills."""

import os
import re
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

from mmseg.utils import atomic_path

PART = re.compile(r'\.(.+?)(?:\.[0-9a-f]{12})?\.part(\.[^.]+)')  # of `x.png`: .x.<token>.part.png


@contextmanager
def whole_file(path):
    """`atomic_path` for what several processes may write at once, on any machines: the same labels.

    A temporary file that another has removed by `remove_parts` is not missed if `path` is there.
    """
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except FileNotFoundError:
        if not Path(path).exists():
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
                if found and ''.join(found.groups()) in names:
                    Path(entry.path).unlink(missing_ok=True)
