"""Write files atomically, find files of the checkout, keep paths below their folder."""

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from mmseg.errors import UserError

from .describe import shown

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent
# The folder of configs/, tools/ and demo/: the checkout, or in a wheel mmseg/.mim (setup.py).
RESOURCES = PACKAGE / '.mim' if (PACKAGE / '.mim').is_dir() else CHECKOUT
# Of `x.png`: .x.<machine, process, random>.part.png
PART = re.compile(
    r'\..+\.(?P<machine>[0-9a-f]{8})(?P<process>[0-9a-f]{6})[0-9a-f]{8}\.part(\.[^.]+)?'
)
DAY = 86400
UMASK = os.umask(0o077)  # what new files are not allowed; it can only be read by setting it
os.umask(UMASK)


def _machine() -> str:
    """Identify the machine or the container of this process by eight hex digits.

    The first pid namespace has the same number on every host, so the boot id counts too.
    """
    known = [socket.gethostname()]
    with suppress(OSError):  # Linux alone has these
        known.append(Path('/proc/sys/kernel/random/boot_id').read_text())
        known.append(os.readlink('/proc/self/ns/pid'))
    return hashlib.sha256(' '.join(known).encode()).hexdigest()[:8]


MACHINE = _machine()


def reason_of(error: BaseException) -> str:
    """Put an exception of the system or of a library into one line."""
    text = getattr(error, 'strerror', None) or str(error).strip() or type(error).__name__
    return shown(text.splitlines()[0], 200)


@contextmanager
def library_errors(problem: str, cure: str) -> Iterator[None]:
    """Tell an error of a library whose errors have no common type in one line.

    Raises:
        UserError: 'problem (reason); cure'.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'{problem} ({reason_of(error)}); {cure}') from error


@contextmanager
def hub_errors(problem: str, cure: str) -> Iterator[None]:
    """As `library_errors`, without the logs of a hub's client, which repeat every retry."""
    logging.disable(logging.ERROR)
    try:
        with library_errors(problem, cure):
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` if the block succeeds.

    The block makes a file, or a folder where none is. The temporary name is unique on all machines
    and keeps the suffix, by which many writers choose the format. The folder above is made.

    Raises:
        UserError: the disk is full, permission is missing, or the path is a folder.
    """
    path = Path(path)
    stem = os.fsdecode(os.fsencode(path.stem)[:200])  # a name has at most 255 bytes
    token = f'{MACHINE}{os.getpid():06x}{uuid.uuid4().hex[:8]}'
    temporary = path.with_name(f'.{stem}.{token}.part{path.suffix}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_file():  # safetensors lets its owner alone read a file
            with suppress(PermissionError):  # some file systems know no modes
                temporary.chmod(0o666 & ~UMASK)
        os.replace(temporary, path)
    except UserError:
        raise
    except Exception as error:  # torch and safetensors raise other types on a full disk
        if not isinstance(error, OSError) and not _is_full(path.parent):
            raise
        raise UserError(f'cannot write {path}: {reason_of(error)}') from error
    finally:
        with suppress(OSError):
            _remove(temporary)


def _is_full(folder: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(folder).free < 2**20
    return False


def sweep_parts(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder.

    These are files of processes of this machine that have ended, and all that are a day old.
    """
    with os.scandir(folder) as entries:
        parts = [(entry, match) for entry in entries if (match := PART.fullmatch(entry.name))]
    for entry, match in parts:
        with suppress(OSError):  # another run was faster, or the file is not ours to remove
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > DAY
            if old or (match['machine'] == MACHINE and not _runs(int(match['process'], 16))):
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    """Remove a file, or a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def point_to(target: str | Path, link: str | Path) -> None:
    """Replace `link` by a symbolic link to a file beside it."""
    with atomic_path(link) as temporary:
        temporary.symlink_to(Path(target).name)


def output_dir(path: str | Path) -> Path:
    """Make a folder, check that it is writable, and remove files of killed runs.

    Raises:
        UserError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        sweep_parts(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f'cannot write to the folder {path}: {reason_of(error)}; choose another one'
        ) from error
    return path


def path_below(root: str | Path, name: Any, source: object) -> Path:
    """Join a root and a name that was read from a file, and refuse names that leave the root.

    Symbolic links below the root belong to the user and are followed.

    Args:
        source: the file that holds the name, for the message.

    Raises:
        UserError: the name is no relative path, or leads out of the root.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) and '\0' not in name else ()
    if not parts or '..' in parts or Path(name).is_absolute():
        raise UserError(f'{source} names {name!r}, which is no path below {root or "its root"}')
    return Path(root, name)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: missing, unreadable, or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} cannot be read as JSON: {reason_of(error)}') from error


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file, whole or not at all; what is no UTF-8 becomes JSON's own escape."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + '\n', 'backslashreplace')


def write_text(path: str | Path, text: str, errors: str = 'strict') -> None:
    """Write a file of UTF-8, whole or not at all; `errors` as for `str.encode`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8', errors=errors)


def unique_names(paths: Sequence[Path]) -> dict[str, str]:
    """Map paths to names for their results: the stem, or the path below the common folder."""
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


def in_checkout(path: str | Path) -> str:
    """Find a path of `pretrain/` or `data/`: in the current folder, else in the checkout."""
    below = CHECKOUT / path
    ours = Path(path).parts[:1] in (('pretrain',), ('data',))
    return str(below if ours and not Path(path).exists() and below.exists() else path)


def cache_folder() -> Path:
    """Return the folder of what can be computed again."""
    return Path(os.environ.get('MMSEG_CACHE') or Path.home() / '.cache' / 'mmseg-maskclip')


def digest_file(path: str | Path) -> str:
    """Compute the sha256 of a file."""
    sha = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
