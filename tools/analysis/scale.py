"""Measure the bookkeeping of tools/pseudo_label.py over a million shards, without a network.

python tools/analysis/scale.py [--shards 10000 1000000] [--photos 5000] [--turns 5]

Shards, and then labels of them, are links to one small tar. For each number: seconds and memory to
plan; and, the plan included, to find what a stopped run left, to check that all labels are of their
shards, and to count them in the end. Then the efficiency of two processes, each on a core of its
own, that label photos of 500 x 375 by a network that takes no time. Linux only.
"""

import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError

FOLDER = 1000  # shards of a folder


class Stub:
    """A labeller whose network takes no time."""

    read: Callable[[str], Any]

    def __init__(self) -> None:
        from mmseg.datasets.reading import read_photo

        self.read = read_photo

    def stream(self, images: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """Label every pixel as class 0."""
        from PIL import Image

        from mmseg.labelling.labeller import Labelled

        for key, image in images:
            yield key, Labelled(Image.new('L', image.size), None)


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--shards', type=int, nargs='+', default=[10_000, 1_000_000])
    parser.add_argument('--photos', type=int, default=5000)
    parser.add_argument('--turns', type=int, default=5, help='of one and of two processes')
    args = parser.parse_args()
    if min(args.shards) < 1 or args.photos < 1000 or args.turns < 1:
        raise UserError('--shards and --turns are numbers from 1 on, --photos from 1000 on')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo, shard, label = make_shard(folder)
        for number in args.shards:
            paths = make_list(folder / str(number), number, shard)
            for what in ('start', 'go on', 'check', 'finish'):
                if what != 'start':
                    present = number // 2 if what == 'go on' else number
                    link_labels(folder / str(number) / 'labels', number, present, label)
                seconds, memory = apart(bookkeeping, paths, what)
                print(f'{number} shards, {what}: {seconds:.1f} s, {memory:.0f} MB', flush=True)
        for i in range(args.photos):
            os.makedirs(folder / 'photos', exist_ok=True)
            (folder / 'photos' / f'{i}.jpg').symlink_to(photo)
        for turn in range(args.turns):
            (one,) = label_apart(folder / 'photos', folder / f'one_{turn}', 1)
            two = max(label_apart(folder / 'photos', folder / f'two_{turn}', 2))
            print(
                f'{args.photos} photos: one process {one:.1f} s, two {two:.1f} s, '
                f'efficiency {100 * one / two / 2:.0f} %'
            )


def make_shard(folder: Path) -> tuple[Path, Path, Path]:
    """Make a photo, a tar of it, and the tar of its label."""
    import numpy as np
    from PIL import Image

    from mmseg.labelling.units import TarUnit, label_unit

    coarse = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(coarse).resize((500, 375)).save(folder / 'photo.jpg', quality=92)
    with tarfile.open(folder / 'shard.tar', 'w') as tar:
        tar.add(folder / 'photo.jpg', 'photo.jpg')
    label_unit(TarUnit(f'{folder}/shard.tar', f'{folder}/label.tar'), Stub())  # type: ignore[arg-type]
    return folder / 'photo.jpg', folder / 'shard.tar', folder / 'label.tar'


def make_list(folder: Path, number: int, shard: Path) -> Path:
    """Make so many links to a shard, and a list of them."""
    names = [f'{folder}/{i // FOLDER:04d}/{i:07d}.tar' for i in range(number)]
    for i, name in enumerate(names):
        if i % FOLDER == 0:
            os.makedirs(os.path.dirname(name))
        os.symlink(shard, name)
    (folder / 'list.txt').write_text('\n'.join(names))
    return folder / 'list.txt'


def link_labels(folder: Path, number: int, present: int, label: Path) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(present):
        path = folder / f'{i:07d}.tar'
        if not os.path.lexists(path):
            os.symlink(label, path)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process."""
    with get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def bookkeeping(paths: Path, what: str) -> tuple[float, float]:
    """Plan a list of shards, and check labels or count them: (seconds, MB that this took)."""
    from mmseg.labelling.command import report
    from mmseg.labelling.units import find_units, label_unit, missing_first

    Path('/proc/self/clear_refs').write_text('5')  # the peak so far is forgotten
    before, start = peak_kilobytes(), time.perf_counter()
    units = find_units(paths, paths.parent / 'labels')
    shared = missing_first(units)
    if what == 'check':
        stub = Stub()
        for unit in shared:
            label_unit(unit, stub)  # type: ignore[arg-type]
    if what == 'finish':
        report((), units, shared, paths.parent / 'labels', quiet=True)
    return time.perf_counter() - start, (peak_kilobytes() - before) / 1e3


def peak_kilobytes() -> int:
    """Read the most memory since clear_refs; getrusage counts the process that started this one."""
    status = Path('/proc/self/status').read_text()
    return int(status.partition('VmHWM:')[2].split()[0])


def label_apart(photos: Path, out: Path, processes: int) -> list[float]:
    """Label a folder by some processes, one a core; return the seconds of each."""
    with get_context('spawn').Pool(processes) as pool:
        shares = [(photos, out, share, processes) for share in range(processes)]
        return pool.starmap(label_share, shares, chunksize=1)


def label_share(photos: Path, out: Path, share: int, shares: int) -> float:
    """Label a share of a folder's photos on one core: seconds."""
    from mmseg.labelling.units import find_units, label_unit

    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[share]])
    stub, units = Stub(), find_units(photos, out)
    label_unit(units[-1], stub)  # type: ignore[arg-type]  # imports, and the folder
    start = time.perf_counter()
    for unit in units[share:-1:shares]:
        label_unit(unit, stub)  # type: ignore[arg-type]
    return time.perf_counter() - start


if __name__ == '__main__':
    run_command(main)
