"""Label files that are whole or missing, whoever else writes them, and no remains of kills."""

import os
import re
import uuid
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

PART = re.compile(r'\.(.+?)(?:\.[0-9a-f]{32})?\.part(\.[^.]+)')  # of `x.png`: .x.<token>.part.png


@contextmanager
def whole_file(path):
    """Yield a name of its own beside `path`; rename it onto `path` if the block succeeds.

    Processes may write one path at once, on any machines: each a file of its own, all the same
    labels. One that another has removed by `remove_parts` is not missed if `path` is there.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{uuid.uuid4().hex}.part{path.suffix}')
    try:
        yield temporary
        _rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rename(temporary, path):
    try:
        os.replace(temporary, path)
    except FileNotFoundError:
        if not path.exists():
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
