"""Write, read and check masks, with many processes. Masks are PNGs with a palette."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmseg.datasets import ReleasedDataset
from mmseg.datasets.reading import photo_size, read_list
from mmseg.errors import UserError
from mmseg.utils import (
    Progress,
    atomic_path,
    digest_file,
    output_dir,
    path_below,
    read_image,
    write_json,
    write_text,
)
from mmseg.utils.images import LABEL_PNG, label_image
from mmseg.vocabularies import load_vocabulary

UNLABELLED = 255
SHOWN = 20  # problems that are printed; all are saved
SOURCE_NOTE = 'SOURCE.txt'  # beside the masks: names their source
Palette = Sequence[tuple[int, int, int]]
Labels = NDArray[np.uint8]
J = TypeVar('J')
R = TypeVar('R')


def in_parallel(
    function: Callable[[J], R],
    jobs: Iterable[J],
    total: int,
    label: str,
    *,
    processes: int | None = None,
    unit: str = 'photo',
) -> Iterator[R]:
    """Yield function(job) of all jobs, in order, and show the progress.

    Args:
        function: defined at module level, so that other processes can import it.
        processes: None for one per core; 0 or 1 to work in this process.

    Raises:
        UserError: a process was killed.
    """
    processes = (os.cpu_count() or 1) if processes is None else processes
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


def _start_worker(parent: int) -> None:
    """Ignore Ctrl-C, since the parent ends its workers, and exit if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def convert_masks(
    labels_of: Callable[..., Labels],
    jobs: Iterable[tuple],
    palette: Palette,
    *,
    overwrite: bool = False,
    processes: int | None = None,
) -> None:
    """Write masks of labels_of(*arguments).

    Args:
        labels_of: defined at module level, so that other processes can import it.
        jobs: (*arguments, path of the mask) each.
        palette: of the masks.
        overwrite: write masks again that are there.
        processes: see `in_parallel`.
    """
    jobs = [job for job in jobs if overwrite or not job[-1].is_file()]
    for folder in {job[-1].parent for job in jobs}:
        output_dir(folder)
    convert = partial(_convert, labels_of, palette)
    for _ in in_parallel(convert, jobs, len(jobs), 'masks', processes=processes, unit='mask'):
        pass


def _convert(labels_of: Callable[..., Labels], palette: Palette, job: tuple) -> None:
    *arguments, target = job
    write_mask(target, labels_of(*arguments), palette)


def write_mask(path: str | Path, labels: Labels, palette: Palette) -> None:
    """Write (H, W) labels as a PNG, see `label_image`."""
    with atomic_path(path) as temporary:
        label_image(labels, palette).save(temporary, **LABEL_PNG)


def read_labels(path: str | Path) -> Labels:
    """Read a PNG of class indices: (H, W) uint8.

    Raises:
        UserError: the file is missing, damaged, or holds colours.
    """
    image = read_image(path, lambda opened: opened.copy())
    if image.mode not in ('L', 'P'):
        raise UserError(f'{path} has {image.mode} pixels, not one class index each')
    return np.asarray(image)


def mat_labels(
    path: str | Path, find: Callable[[Mapping[str, Any]], Any], release: str
) -> NDArray[np.int64]:
    """Read (H, W) labels from a .mat file.

    Args:
        find: content of the file -> array.
        release: its name, for messages.

    Raises:
        UserError: the file is damaged, or not of this release.
    """
    import scipy.io

    try:
        labels = np.asarray(find(scipy.io.loadmat(path)))
    except Exception as error:  # scipy's errors about damaged files have no common type
        raise UserError(f'{path} cannot be read as a .mat file of {release}: {error!r}') from error
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in 'iu' or labels.min() < 0:
        raise UserError(
            f'{path} holds {labels.dtype} {labels.shape}; a mask of {release} is (H, W) of ids'
        )
    return labels.astype(np.int64)


def start_masks(layout: 'Layout', source: str | Path, *, overwrite: bool = False) -> None:
    """Note the source of the masks, and check that masks in the folder were made from it.

    Args:
        overwrite: remove masks in the folder instead.

    Raises:
        UserError: the folder holds masks of another source.
    """
    source, folder = Path(source), output_dir(layout.root / layout.ann_dir)
    size = source.stat().st_size if source.is_file() else sum(1 for _ in source.rglob('*'))
    note, content = folder / SOURCE_NOTE, f'{source.name} {size}\n'
    if not overwrite and any(folder.glob(f'*{layout.mask_suffix}')):
        if not note.is_file() or note.read_text(errors='replace') != content:
            raise UserError(
                f'{folder} holds masks that were not made from {source}; move them away, check '
                'them with --verify, or replace them with --overwrite'
            )
    for path in folder.glob(f'*{layout.mask_suffix}') if overwrite else ():
        path.unlink()
    note.write_text(content)


def write_list(path: str | Path, names: Iterable[str]) -> None:
    """Write a split list, a name per line.

    Raises:
        UserError: a name is no line: it has a line break or blanks at its ends, or is no UTF-8.
    """
    for name in names:
        is_text = name.encode(errors='replace').decode() == name
        if not is_text or [line.strip() for line in name.splitlines()] != [name]:
            raise UserError(f'{path} cannot hold {name!r}: a name is one line; rename the file')
    write_text(path, ''.join(f'{name}\n' for name in names))


class Layout(NamedTuple):
    """The files of a prepared data set: `root / dir / (name + suffix)`.

    Attributes:
        values: names of the values 0, 1, ... of the masks, besides 255.
    """

    root: Path
    img_dir: str
    ann_dir: str
    list_dir: str
    img_suffix: str
    mask_suffix: str
    values: Sequence[str]

    def photo(self, name: str) -> Path:
        return self._below(self.img_dir, f'{name}{self.img_suffix}')

    def mask(self, name: str) -> Path:
        return self._below(self.ann_dir, f'{name}{self.mask_suffix}')

    def _below(self, folder: str, name: str) -> Path:
        return path_below(self.root / folder, name, 'the data set')

    def list(self, split: str) -> Path:
        return self.root / self.list_dir / f'{split}.txt'


def layout_of(dataset: type[ReleasedDataset], root: Path) -> Layout:
    """Return the layout in which a data set reads its release."""
    files = dataset.release
    labels = load_vocabulary(files['vocabulary']).labels
    return Layout(
        root,
        files['img_dir'],
        files['ann_dir'],
        str(Path(files['split']).parent),
        files.get('img_suffix', '.jpg'),
        files.get('seg_map_suffix', '.png'),
        ('other', *labels) if files.get('reduce_zero_label') else labels,
    )


def verify(
    layout: Layout,
    splits: Sequence[str],
    *,
    expected: Mapping[str, Sequence[int]] | None = None,
    processes: int | None = None,
    shortfalls: Sequence[str] = (),
) -> None:
    """Check every photo and mask of the lists; print and save a report.

    Args:
        splits: names of lists.
        expected: {split: correct numbers of names}, or None for any.
        shortfalls: earlier problems, to be listed with the others.

    Raises:
        UserError: a file is missing, damaged or of the wrong size, or has a value that is no class.
    """
    problems, split_of = [*shortfalls], dict[str, str]()
    reports: dict[str, dict[str, Any]] = {}
    for split in splits:
        names = read_list(layout.list(split))
        shared = [name for name in names if name in split_of]
        problems += [f'{name} is in {split_of[name]} and {split}' for name in shared]
        split_of |= dict.fromkeys(names, split)
        problems += _list_problems(layout.list(split), names, expected[split] if expected else ())
        jobs = ((layout.photo(name), layout.mask(name), len(layout.values)) for name in names)
        results = in_parallel(check_mask, jobs, len(names), f'check {split}', processes=processes)
        pixels = np.zeros(256, np.int64)
        for counts, problem in results:
            pixels += counts
            problems += [problem] if problem else []
        reports[split] = dict(
            photos=len(names),
            list_sha256=digest_file(layout.list(split)),
            pixels={name: int(pixels[i]) for i, name in enumerate(layout.values)},
            unlabelled=int(pixels[UNLABELLED]),
        )
    _print_reports(reports, layout.values)
    path = layout.root / layout.list_dir / 'verification.json'
    write_json(path, dict(reports, problems=problems))
    print(f'saved: {path}')
    if problems:
        for problem in problems[:SHOWN]:
            print(f'  {problem}')
        more = f'; all {len(problems)} are listed in {path}' if len(problems) > 1 else ''
        raise UserError(f'{layout.root} is not whole: {problems[0]}{more}')


def _list_problems(path: Path, names: Sequence[str], expected: Sequence[int]) -> Iterator[str]:
    if expected and len(names) not in expected:
        yield f'{path.name} has {len(names)} names, not {" or ".join(map(str, expected))}'
    for name, count in Counter(names).items():
        if count > 1:
            yield f'{path.name} names {name} twice'
    if not names:
        yield f'{path} is empty'


def check_mask(job: tuple[Path, Path, int]) -> tuple[NDArray[np.int64], str | None]:
    """Check one (photo, mask, number of values); return (256,) pixels of each value, a problem."""
    photo, path, values = job
    nothing = np.zeros(256, np.int64)
    try:
        labels, size = read_labels(path), photo_size(photo)
    except UserError as error:
        return nothing, str(error)
    if labels.shape != size:
        shapes = f'{labels.shape[1]}x{labels.shape[0]}, its photo {size[1]}x{size[0]}'
        return nothing, f'{path} is {shapes}'
    counts = np.bincount(labels.ravel(), minlength=256)
    unknown = np.flatnonzero(counts[values:UNLABELLED]) + values
    if len(unknown):
        return counts, f'{path} holds {unknown[0]}; classes end at {values - 1}'
    return counts, None


def _print_reports(reports: Mapping[str, Mapping[str, Any]], values: Sequence[str]) -> None:
    """Print the photos of each split, and each class's share of the labelled pixels."""
    for split, report in reports.items():
        print(f'{split}: {report["photos"]} photos; list {report["list_sha256"][:12]}...')
    print(f'{"share of pixels, %":24}' + ''.join(f'{split:>12}' for split in reports))
    labelled = [report['pixels'] for report in reports.values()]
    for i, name in enumerate(values):
        shares = [pixels[name] / max(sum(pixels.values()), 1) for pixels in labelled]
        print(f'{i:3} {name:20}' + ''.join(f'{100 * share:12.3f}' for share in shares))
