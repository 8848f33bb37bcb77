"""Releases as tar archives: fetched, and unpacked without what is not wanted."""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from mmseg.errors import UserError
from mmseg.utils import Progress, atomic_path, output_dir, path_below, what_is
from mmseg.utils.download import download


def fetch_release(urls, folder, *, mirror=None, sha256=None):
    """Addresses of one file, and a mirror that holds it by its name -> where it lies now.

    A file that is there is taken as it is: it came there whole.
    """
    name = PurePosixPath(urls[0]).name
    target = output_dir(folder) / name
    if target.is_file():
        print(f'{target}: there already')
        return target
    if mirror is not None:
        urls = [f'{mirror.rstrip("/")}/{name}', *urls]
    download(urls, target, sha256=sha256)
    return target


def unpack(archive, root, wanted):
    """Write the regular files of a tar below `root` whose paths start with one of `wanted`.

    Files that are there in their full size are left as they are, so a stopped run goes on.

    Raises:
        UserError: it is no tar, is cut short, holds nothing of what is wanted, or names a path
            outside `root`.
    """
    archive, root, found = Path(archive), Path(root), 0
    size = archive.stat().st_size
    try:
        with tarfile.open(archive) as tar, Progress(size // 10**6, 'unpack', unit='MB') as progress:
            for member in tar:
                name = str(PurePosixPath(member.name))
                if member.isreg() and name.startswith(tuple(wanted)):
                    _write(tar.extractfile(member), path_below(root, name, archive), member.size)
                    found += 1
                progress.update(member.offset // 10**6 - progress.done)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f'{archive} is cut short, or {what_is(archive)} ({error}); delete it and fetch it again'
        ) from error
    if not found:
        raise UserError(f'{archive} holds nothing below {" or ".join(wanted)}')
    print(f'{found} files of {archive.name} are below {root}')


def _write(source, target, size):
    if target.is_file() and target.stat().st_size == size:
        return
    with atomic_path(target) as temporary, temporary.open('wb') as file:
        shutil.copyfileobj(source, file)
        file.flush()
        if os.path.getsize(temporary) != size:
            raise EOFError(f'{target.name} ends early')
