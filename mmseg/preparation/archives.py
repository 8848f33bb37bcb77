"""Fetch releases, and unpack parts of tar archives."""

import os
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from mmseg.errors import UserError
from mmseg.utils import Progress, atomic_path, describe_file, output_dir, path_below
from mmseg.utils.download import download


def fetch_release(urls: Sequence[str], folder: str | Path, *, mirror: str | None = None) -> Path:
    """Download a file to a folder, unless it is there, and return its path.

    Args:
        urls: addresses of the file.
        mirror: address of a folder with the same file, which is tried first.
    """
    name = PurePosixPath(urls[0]).name
    target = output_dir(folder) / name
    if target.is_file():
        print(f'{target}: there already')
        return target
    if mirror is not None:
        urls = [f'{mirror.rstrip("/")}/{name}', *urls]
    download(urls, target)
    return target


def unpack(archive: str | Path, root: str | Path, prefixes: Iterable[str]) -> None:
    """Write the regular files of a tar whose paths start with one of `prefixes` below `root`.

    Files of the right size are kept, so a stopped run continues.

    Raises:
        UserError: it is no tar, is cut short, holds none of these files, or names a path outside
            `root`.
    """
    archive, root, prefixes, written = Path(archive), Path(root), tuple(prefixes), 0
    size = archive.stat().st_size
    try:
        with tarfile.open(archive) as tar, Progress(size // 10**6, 'unpack', unit='MB') as progress:
            for member in tar:
                name = str(PurePosixPath(member.name))
                if member.isreg() and name.startswith(prefixes):
                    file = tar.extractfile(member)
                    assert file is not None  # only directories and links have none
                    _write(file, path_below(root, name, archive), member.size)
                    written += 1
                progress.update(member.offset // 10**6 - progress.done)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f'{archive} is cut short, or {describe_file(archive)} ({error}); delete it and '
            'fetch it again'
        ) from error
    if not written:
        raise UserError(f'{archive} holds nothing below {" or ".join(prefixes)}')
    print(f'{written} files of {archive.name} are below {root}')


def _write(source: IO[bytes], target: Path, size: int) -> None:
    if target.is_file() and target.stat().st_size == size:
        return
    with atomic_path(target) as temporary, temporary.open('wb') as file:
        shutil.copyfileobj(source, file)
        file.flush()
        if os.path.getsize(temporary) != size:
            raise EOFError(f'{target.name} ends early')
