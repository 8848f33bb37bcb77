"""Download files: resumed where they stopped, checked, and never left half done."""

import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from mmseg.errors import UserError

from .files import digest_file
from .progress import Progress

BLOCK, MB = 1 << 18, 1e6
AGENT = {'User-Agent': 'mmseg-maskclip'}  # some hosts refuse Python's default


class DownloadError(Exception):
    """One source fails; another one may have the file."""


class _Broken(http.client.HTTPException):
    """The connection ended, or was silent for too long."""


def download(
    urls: Iterable[str],
    target: str | Path,
    *,
    sha256: str | None = None,
    recognise: Callable[[Path], Any] | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
) -> str:
    """Download a file from the first of some addresses that works; return that address.

    A part of a broken download stays beside the target, and the next call continues it. Proxies are
    taken from the environment (`https_proxy`, `no_proxy`).

    Args:
        target: path of the file. It appears there when it is complete.
        sha256: expected hex digest. None for any.
        recognise: reads a complete file and raises a UserError if it is another file.
        attempts: failures in a row without new data, after which the next address is tried.
        timeout: seconds of silence after which an attempt ends.

    Raises:
        UserError: no address worked. The message has the reason of each, and where to put the file.
    """
    target = Path(target)
    reasons = []
    for url in urls:
        digest = hashlib.sha1(url.encode()).hexdigest()[:8]
        part = target.with_name(f'.{target.name}.{digest}.part')
        with _locked(target):
            try:
                _fetch(url, part, target.name, attempts, timeout)
                _check(part, sha256, recognise)
            except DownloadError as error:
                reasons.append(f'{url}: {error}')
                continue
            os.replace(part, target)
            _tag_file(part).unlink(missing_ok=True)
        return url
    raise UserError(
        f'{target.name} could not be fetched ({"; ".join(reasons) or "no source is known"}); '
        f'try again later, or put it at {target} by hand'
    )


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep other processes from downloading the same file.

    Raises:
        UserError: another process downloads it.
    """
    lock = target.with_name(f'.{target.name}.lock')
    with _writing(lock):
        file = lock.open('w')
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f'{target.name} is being fetched by another process') from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _fetch(url: str, part: Path, name: str, attempts: int, timeout: float) -> None:
    """Complete `part`, in as many requests as it takes."""
    left = attempts
    while True:
        before = _size(part)
        try:
            if _request(url, part, name, timeout):
                return
            reason = 'the connection ended early'
        except urllib.error.HTTPError as error:
            reason = f'the server answers {error.code} {error.reason}'
            if error.code == 416:
                if error.headers.get('Content-Range') == f'bytes */{before}':
                    return  # it is complete
                part.unlink(missing_ok=True)  # the file has changed since
            elif error.code < 500 and error.code not in (408, 429):
                raise DownloadError(reason) from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, 'reason', error)) or type(error).__name__
        left = attempts if _size(part) > before else left - 1
        if left <= 0:
            raise DownloadError(reason)
        time.sleep(min(0.2 * 2 ** (attempts - left), 10.0))


def _request(url: str, part: Path, name: str, timeout: float) -> bool:
    """Request the rest of the file; return whether it is complete."""
    have, tag = _size(part), _tag_file(part)
    headers = dict(AGENT)
    if have:
        headers['Range'] = f'bytes={have}-'
        if tag.is_file():
            headers['If-Range'] = tag.read_text()  # a changed file starts anew
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        have = have if answer.status == 206 else 0
        length = answer.headers.get('Content-Length')
        total = None if length is None else have + int(length)
        if not have and answer.headers.get('ETag', 'W/').startswith('"'):
            with _writing(tag):
                tag.write_text(answer.headers['ETag'])
        _copy(answer, part, have, total, name)
    return total is None or _size(part) == total


def _copy(answer: Any, part: Path, have: int, total: int | None, name: str) -> None:
    with Progress(ceil((total or 0) / MB), name, unit='MB') as progress:
        progress.skip(int(have / MB))
        with _writing(part), part.open('ab' if have else 'wb') as file:
            for block in iter(lambda: _read(answer), b''):
                file.write(block)
                have += len(block)
                now = progress.total if have == total else int(have / MB)
                progress.update(now - progress.done)


def _read(answer: Any) -> bytes:
    """Read a block. Errors of the network get their own type, unlike those of the disk."""
    try:
        return answer.read1(BLOCK)
    except OSError as error:
        raise _Broken(str(error) or type(error).__name__) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def _check(part: Path, sha256: str | None, recognise: Callable[[Path], Any] | None) -> None:
    """Remove a complete file that is not the expected one, and raise a DownloadError."""
    try:
        if sha256 is not None and (actual := digest_file(part)) != sha256:
            raise DownloadError(f'its sha256 is {actual[:12]}..., not {sha256[:12]}...')
        if recognise is not None:
            recognise(part)
    except (DownloadError, UserError) as error:
        part.unlink()
        _tag_file(part).unlink(missing_ok=True)
        raise DownloadError(str(error).replace(str(part), 'it')) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _tag_file(part: Path) -> Path:
    return part.with_suffix('.tag')
