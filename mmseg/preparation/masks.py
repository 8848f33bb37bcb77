"""Masks as palette PNGs, made and checked by many processes."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
from PIL import Image

from mmseg.datasets.reading import photo_size
from mmseg.errors import UserError
from mmseg.utils import Progress, atomic_path, output_dir, path_below, read_image, reason_of

UNLABELLED = 255
SHOWN = 20  # shortfalls that are printed; all are saved
SOURCE_NOTE = 'SOURCE.txt'  # beside the masks: what they were made from


def in_parallel(function, jobs, total, label, *, processes=None, unit='photo'):
    """Yield function(job) for jobs in their order, under a bar.

    Args:
        function: of a module, so that other processes find it.
        processes: how many; None for the cores of this machine, 0 for none but this one.
    """
    processes = os.cpu_count() if processes is None else processes
    with Progress(total, label, unit=unit) as progress:
        if processes < 2:
            for job in jobs:
                yield function(job)
                progress.update()
            return
        context = multiprocessing.get_context('fork')
        pool = ProcessPoolExecutor(processes, context, _start_worker, (os.getpid(),))
        try:
            for result in pool.map(function, jobs, chunksize=4):
                yield result
                progress.update()
        except BrokenProcessPool as error:
            raise UserError(
                f'{label}: a process was killed, perhaps for want of memory; use --processes 1'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(parent):
    """Leave Ctrl-C to the parent, which ends its workers, and end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_mask(path, labels, palette):
    """(H, W) uint8 -> a PNG whose colours a viewer shows; value i has palette[i], 255 is white"""
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    image = Image.fromarray(labels)
    image.putpalette(colours.tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary)


def read_labels(path):
    """A PNG of class indices -> (H, W) uint8.

    Raises:
        UserError: missing, damaged, or of colours.
    """
    image = read_image(path, lambda opened: opened.copy())
    if image.mode not in ('L', 'P'):
        raise UserError(f'{path} has {image.mode} pixels, not one class index each')
    return np.asarray(image)


def mat_labels(path, find, release):
    """A .mat file, content -> array, the release's name -> (H, W) int64 from 0 on.

    Raises:
        UserError: damaged, or not of this release.
    """
    try:
        labels = np.asarray(find(scipy.io.loadmat(path)))
    except Exception as error:  # scipy's errors about damaged files have no common type
        raise UserError(f'{path} cannot be read as a .mat file of {release}: {error!r}') from error
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in 'iu' or labels.min() < 0:
        raise UserError(
            f'{path} holds {labels.dtype} {labels.shape}; a mask of {release} is (H, W) of ids'
        )
    return labels.astype(np.int64)


def start_masks(layout, source, *, overwrite=False):
    """Make sure that masks which are there were made from this very source, so that they may stay.

    Raises:
        UserError: the folder holds masks of another source.
    """
    folder = output_dir(layout.root / layout.ann_dir)
    note, said = folder / SOURCE_NOTE, f'{Path(source).name} {_size(source)}\n'
    if not overwrite and any(folder.glob(f'*{layout.mask_suffix}')):
        if not note.is_file() or note.read_text(errors='replace') != said:
            raise UserError(
                f'{folder} holds masks that were not made from {source}; move them away, check '
                'them with --verify, or replace them with --overwrite'
            )
    for path in folder.glob(f'*{layout.mask_suffix}') if overwrite else ():
        path.unlink()
    note.write_text(said)


def _size(source):
    """Bytes of a file, or the number of a folder's files"""
    source = Path(source)
    return source.stat().st_size if source.is_file() else sum(1 for _ in source.rglob('*'))


def write_list(path, names):
    """Write names, one a line.

    Raises:
        UserError: a name with blanks, or of bytes that are no UTF-8.
    """
    for name in names:
        if len(name.split()) != 1 or name.encode(errors='replace').decode() != name:
            raise UserError(f'{path} cannot hold {name!r}: a name is one word; rename the file')
    with atomic_path(path) as temporary:
        temporary.write_text(''.join(f'{name}\n' for name in names))


def read_list(path):
    """A split list -> its names"""
    try:
        return Path(path).read_text(encoding='utf-8').split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'the split list {path} cannot be read ({reason_of(error)}); is this the root of a '
            'data set that was unpacked and, for --verify, prepared?'
        ) from error


class Layout(NamedTuple):
    """Where a prepared data set keeps what: paths are `root / dir / (name + suffix)`.

    Attributes:
        values: names of the values 0, 1, ... that masks may hold besides 255.
    """

    root: Path
    img_dir: str
    ann_dir: str
    list_dir: str
    img_suffix: str
    mask_suffix: str
    values: tuple

    def photo(self, name):
        return self._below(self.img_dir, f'{name}{self.img_suffix}')

    def mask(self, name):
        return self._below(self.ann_dir, f'{name}{self.mask_suffix}')

    def _below(self, folder, name):
        return path_below(self.root / folder, name, 'the data set')

    def list(self, split):
        return self.root / self.list_dir / f'{split}.txt'


def verify(layout, splits, *, expected=None, processes=None, shortfalls=()):
    """Check every photo and mask of the lists, print and save what is there.

    Args:
        splits: names of lists.
        expected: {split: numbers of names that are right}, or None for any.
        shortfalls: what went wrong before, to be listed with the rest.

    Raises:
        UserError: anything is missing, damaged, of another size, or with a value that is no class.
    """
    problems, report, seen = list(shortfalls), {}, {}
    for split in splits:
        names = read_list(layout.list(split))
        problems += [f'{name} is in {seen[name]} and {split}' for name in names if name in seen]
        seen |= dict.fromkeys(names, split)
        if expected and len(names) not in expected[split]:
            known = ' or '.join(map(str, expected[split]))
            problems.append(f'{layout.list(split).name} has {len(names)} names, not {known}')
        doubles = [name for name, count in Counter(names).items() if count > 1]
        problems += [f'{layout.list(split).name} names {name} twice' for name in doubles]
        if not names:
            problems.append(f'{layout.list(split)} is empty')
        jobs = ((layout.photo(name), layout.mask(name), len(layout.values)) for name in names)
        found = list(in_parallel(check, jobs, len(names), f'check {split}', processes=processes))
        problems += [problem for _, problem in found if problem]
        pixels = sum((counts for counts, _ in found), np.zeros(256, np.int64))
        digest = hashlib.sha256(layout.list(split).read_bytes()).hexdigest()
        report[split] = dict(photos=len(names), list_sha256=digest, pixels=pixels)
    print_report(report, layout.values)
    save_report(layout.root / layout.list_dir / 'verification.json', report, layout, problems)
    if problems:
        for problem in problems[:SHOWN]:
            print(f'  {problem}')
        saved = layout.root / layout.list_dir / 'verification.json'
        more = f'; all {len(problems)} stand in {saved}' if len(problems) > 1 else ''
        raise UserError(f'{layout.root} is not whole: {problems[0]}{more}')


def check(job):
    """(photo, mask, number of values) -> (256) pixels of each value, and what is wrong or None"""
    photo, path, values = job
    none = np.zeros(256, np.int64)
    try:
        labels, size = read_labels(path), photo_size(photo)
    except UserError as error:
        return none, str(error)
    if labels.shape != size:
        return none, f'{path} is {labels.shape[1]}x{labels.shape[0]}, its photo {size[1]}x{size[0]}'
    counts = np.bincount(labels.ravel(), minlength=256)
    strange = np.flatnonzero(counts[values:UNLABELLED]) + values
    if len(strange):
        return counts, f'{path} holds {strange[0]}; classes end at {values - 1}'
    return counts, None


def print_report(report, values):
    """Photos per split, and each class's share of the labelled pixels."""
    for split, found in report.items():
        print(f'{split}: {found["photos"]} photos; list {found["list_sha256"][:12]}...')
    print(f'{"share of pixels, %":24}' + ''.join(f'{split:>12}' for split in report))
    for i, name in enumerate(values):
        known = [r['pixels'][: len(values)] for r in report.values()]
        shares = [pixels[i] / max(pixels.sum(), 1) for pixels in known]
        print(f'{i:3} {name:20}' + ''.join(f'{100 * share:12.3f}' for share in shares))


def save_report(path, report, layout, problems):
    content = {
        split: {
            **found,
            'pixels': {name: int(found['pixels'][i]) for i, name in enumerate(layout.values)},
            'unlabelled': int(found['pixels'][UNLABELLED]),
        }
        for split, found in report.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(dict(content, problems=problems), indent=1) + '\n')
    print(f'saved: {path}')
