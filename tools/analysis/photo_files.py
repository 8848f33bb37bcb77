"""Measure what files cost: decode photos, write labels. Without a network.

python tools/analysis/photo_files.py [--sizes 500x375 4000x3000] [--at-least 520] [--workers 2]

For each size: milliseconds of CPU a photo to decode a JPEG, wholly and at the size that suffices
(`LoadImage(at_least=(520, 520))`), to write the PNG of its labels, by runs and as Pillow does by
default, and photos/s of a data loader alone, which decodes both ways and resizes.
"""

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils.images import LABEL_PNG, label_image

COPIES = 48  # of a photo


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--sizes', nargs='+', default=['500x375', '4000x3000'], metavar='WxH')
    parser.add_argument('--at-least', type=int, default=520, help='pixels that suffice')
    parser.add_argument('--workers', type=int, default=2, help='processes of the data loader')
    args = parser.parse_args()
    sizes = [size_of(text) for text in args.sizes]
    if not 1 <= args.workers <= COPIES // 2 or args.at_least < 1:
        raise UserError(f'--workers is a number from 1 to {COPIES // 2}, --at-least from 1 on')
    print('| | decode | decode what suffices | write labels | as Pillow | loader | what suffices |')
    print('|---|---|---|---|---|---|---|')
    for text, size in zip(args.sizes, sizes):
        with tempfile.TemporaryDirectory() as folder:
            cells = measure(folder, size, args.at_least, args.workers)
        print(f'| {text} | {" | ".join(cells)} |', flush=True)


def size_of(text: str) -> tuple[int, int]:
    """Parse 'WxH'."""
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) > 0):
        raise UserError(f'--sizes are like 500x375, not {text}')
    return int(width), int(height)


def measure(folder: str, size: tuple[int, int], at_least: int, workers: int) -> list[str]:
    """Measure photos of one size, in a folder without any: the cells of a row."""
    from mmseg.datasets import LoadImage

    photo = Path(folder, '0.jpg')
    labels = write_photo(photo, size)
    for i in range(1, COPIES):
        Path(folder, f'{i}.jpg').symlink_to(photo)
    whole, enough = LoadImage(), LoadImage(at_least=(at_least, at_least))
    times = [
        cpu_ms(lambda: whole(dict(img_path=photo))),
        cpu_ms(lambda: enough(dict(img_path=photo))),
        cpu_ms(lambda: labels.save(io.BytesIO(), 'png', **LABEL_PNG)),
        cpu_ms(lambda: labels.save(io.BytesIO(), 'png')),
    ]
    rates = [photos_per_second(folder, load, at_least, workers) for load in (whole, enough)]
    return [f'{ms:.1f} ms' for ms in times] + [f'{rate:.1f} photos/s' for rate in rates]


def write_photo(path: Path, size: tuple[int, int]) -> Image.Image:
    """Write a rendered photo with the noise of a camera; return its labels."""
    from mmseg.datasets.miniature import render

    rng = np.random.default_rng(0)
    scene = render(rng, 1000)
    photo = cv2.resize(scene.image, size, interpolation=cv2.INTER_CUBIC)
    noisy = photo + rng.normal(0, 4, photo.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    labels = cv2.resize(scene.mask, size, interpolation=cv2.INTER_NEAREST)
    return label_image(labels.astype(np.uint8), [(0, 0, 0)])


def cpu_ms(function: Callable[[], Any], repeats: int = 10) -> float:
    """Return the median milliseconds of CPU of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times))


def photos_per_second(folder: str, load: Any, size: int, workers: int) -> float:
    """Read, resize and pack a folder of photos by a data loader whose workers run already."""
    from torch.utils.data import DataLoader

    from mmseg.datasets import ImageFolderDataset, PackSegInputs, Resize

    pipeline = [load, Resize((size, size)), PackSegInputs()]
    data = ImageFolderDataset(data_root=folder, vocabulary=['a', 'b'], pipeline=pipeline)
    loader: DataLoader[Any] = DataLoader(data, None, num_workers=workers, persistent_workers=True)
    for _ in range(2):  # workers start in the first pass, and stay
        start = time.perf_counter()
        count = sum(1 for _ in loader)
    return count / (time.perf_counter() - start)


if __name__ == '__main__':
    run_command(main)
