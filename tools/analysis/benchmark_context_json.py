"""Time and memory of reading Pascal Context's JSON: a made-up one of the same size and layout.

python tools/analysis/benchmark_context_json.py [--megabytes 500] [--processes 2]

Reads it as `tools/convert_datasets/pascal_context.py` does and paints every mask, writing none.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.preparation.masks import in_parallel
from mmseg.preparation.pascal_context import paint, read_annotations
from mmseg.utils.tensors import peak_memory

SIZE, SEGMENTS = (375, 500), 24  # of a photo; outlines of one


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--megabytes', type=int, default=500)
    parser.add_argument('--processes', type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'made_up.json'
        photos = write_json(path, args.megabytes * 10**6)
        print(f'{path.stat().st_size / 1e6:.0f} MB, {photos} photos of {SEGMENTS} outlines')
        started = time.monotonic()
        images, segments = read_annotations(path)
        read = time.monotonic()
        jobs = ((images[key], rows) for key, rows in segments.items())
        for _ in in_parallel(paint_one, jobs, photos, 'paint', processes=args.processes):
            pass
    print(f'read {read - started:.0f} s, painted {time.monotonic() - read:.0f} s')
    print(f'an outline has {len(segments[0][0][1][2])} bytes')
    print(f'peak memory of the main process: {peak_memory("cpu") / 1e9:.2f} GB')


def paint_one(job):
    return int(paint(*job).sum())


def write_json(path, size):
    """Photos until the file is that large -> how many"""
    outlines, photos = make_outlines(), 0
    rng = np.random.default_rng(0)
    with path.open('w') as file:
        file.write('{"info": {}, "annos_segmentation": [')
        while file.tell() < size:
            for i in rng.integers(0, len(outlines), SEGMENTS):
                row = dict(id=photos, image_id=photos, category_id=int(rng.integers(0, 460)))
                row |= dict(area=100.0, bbox=[0, 0, 10, 10], iscrowd=0, segmentation=outlines[i])
                file.write((', ' if photos or file.tell() > 60 else '') + json.dumps(row))
            photos += 1
        images = [
            dict(
                image_id=i,
                file_name=f'2008_{i:06d}.jpg',
                phase='train',
                height=SIZE[0],
                width=SIZE[1],
            )
            for i in range(photos)
        ]
        file.write(f'], "images": {json.dumps(images)}}}')
    return photos


def make_outlines(number=64):
    """Blobs with ragged edges, as run lengths of about 2 KB"""
    rng, found = np.random.default_rng(0), []
    for _ in range(number):
        coarse = cv2.resize(rng.random((6, 8), np.float32), SIZE[::-1])
        ragged = coarse + 0.001 * rng.standard_normal(SIZE, np.float32) > 0.62
        run_lengths = coco.encode(np.asfortranarray(ragged.astype(np.uint8)))
        counts = run_lengths['counts'].decode()
        found.append(dict(size=list(SIZE), counts=counts))
    return found


if __name__ == '__main__':
    run_command(main)
