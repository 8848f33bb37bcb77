"""Files from the network: resumed where they stopped, checked, whole or not there."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from math import ceil
from pathlib import Path

from mmseg.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

from .files import digest_file
from .progress import Progress

BLOCK, MB = 1 << 18, 1e6
AGENT = {'User-Agent': 'mmseg-maskclip'}  # some hosts refuse Python's own


class DownloadError(Exception):
    """One source does not give the file; another one may."""


class _Broken(http.client.HTTPException):
    """The connection ended, or was silent for too long."""


def download(urls, target, *, sha256=None, recognise=None, attempts=5, timeout=30.0):
    """Addresses of one and the same file, tried in this order -> the one that gave it.

    What arrived of a broken download stays beside the target and is continued next time. Proxies
    are those of the environment (`https_proxy`, `no_proxy`).

    Args:
        target: where the file goes; it appears there whole.
        sha256: hex digest that it must have; None for any.
        recognise: reads a whole file and raises a UserError if it is of another kind; None for any.
        attempts: to go on after a break, each time that nothing more arrived.
        timeout: seconds of silence that count as a break.

    Raises:
        UserError: no source gave it; what each of them said, and where to put it by hand.
    """
    target, reasons = Path(target), []
    for url in urls:
        mark = hashlib.sha1(url.encode()).hexdigest()[:8]
        part = target.with_name(f'.{target.name}.{mark}.part')
        with _only_one(target):
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
def _only_one(target):
    """Two processes must not write into one part.

    Raises:
        UserError: another process fetches this file.
    """
    lock = target.with_name(f'.{target.name}.lock')
    with _writing(lock):
        file = lock.open('w')
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f'{target.name} is being fetched by another process') from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _fetch(url, part, name, attempts, timeout):
    """Bring `part` to its whole length, in as many requests as that takes."""
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
                    return  # it had arrived whole
                part.unlink(missing_ok=True)  # no beginning of what is there now
            elif error.code < 500 and error.code not in (408, 429):
                raise DownloadError(reason) from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, 'reason', error)) or type(error).__name__
        left = attempts if _size(part) > before else left - 1
        if left <= 0:
            raise DownloadError(reason)
        time.sleep(min(0.2 * 2 ** (attempts - left), 10.0))


def _request(url, part, name, timeout):
    """One request for what is missing -> whether the file is whole now."""
    have, tag = _size(part), _tag_file(part)
    headers = dict(AGENT)
    if have:
        headers['Range'] = f'bytes={have}-'
        if tag.is_file():
            headers['If-Range'] = tag.read_text()  # another file by now starts anew
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


def _copy(answer, part, have, total, name):
    with Progress(ceil((total or 0) / MB), name, unit='MB') as progress:
        progress.skip(int(have / MB))
        with _writing(part), part.open('ab' if have else 'wb') as file:
            for block in iter(lambda: _read(answer), b''):
                file.write(block)
                have += len(block)
                now = progress.total if have == total else int(have / MB)
                progress.update(now - progress.done)


def _read(answer):
    """A block; what the network refuses is told apart from what the disk refuses."""
    try:
        return answer.read1(BLOCK)
    except OSError as error:
        raise _Broken(str(error) or type(error).__name__) from error


@contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error


def _check(part, sha256, recognise):
    try:
        if sha256 is not None and (found := digest_file(part)) != sha256:
            raise DownloadError(f'its sha256 is {found[:12]}..., not {sha256[:12]}...')
        if recognise is not None:
            recognise(part)
    except (DownloadError, UserError) as error:
        part.unlink()
        _tag_file(part).unlink(missing_ok=True)
        raise DownloadError(str(error).replace(str(part), 'it')) from error


def _size(path):
    return path.stat().st_size if path.is_file() else 0


def _tag_file(part):
    return part.with_suffix('.tag')
