"""Files appear whole or not at all."""

import os
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

from mmseg.errors import UserError


@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; rename it onto `path` only if the block succeeds.

    The temporary name is nobody else's, on any machine, and keeps the suffix, since many writers
    choose the format by it.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{uuid.uuid4().hex[:12]}.part{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def point_to(target, link):
    """Make `link` a symbolic link to a file beside it, in place of what it was."""
    with atomic_path(link) as temporary:
        temporary.symlink_to(Path(target).name)


def output_dir(path):
    """Make a folder and prove that it can be written, before any long work starts.

    Raises:
        UserError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f'cannot write to the folder {path}: {error.strerror}; choose another one'
        ) from error
    return path


def unique_names(paths):
    """Paths -> {path: name to write under}: the stem, or the path below the common folder."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return {str(path): stem for path, stem in zip(paths, stems)}
    root = Path(paths[0]).parent
    while not all(path.is_relative_to(root) for path in paths):
        root = root.parent
    relative = [path.relative_to(root) for path in paths]
    return {
        str(path): str(inner.with_name(f'{inner.stem}_{inner.suffix[1:]}'))
        for path, inner in zip(paths, relative)
    }
