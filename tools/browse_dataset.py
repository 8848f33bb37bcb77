"""One picture of many photos of a data set, with their labels, as the config's pipeline gives them.

python tools/browse_dataset.py CONFIG [--split test|train|val] [--number 24] [--out sheet.png]
"""

import argparse
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
import numpy as np
from PIL import Image, ImageOps

from mmseg.apis.command import add_config_arguments, run_command
from mmseg.apis.result import write_image
from mmseg.apis.test import require_data
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.visualization import beside, blend, grid, legend, shares_of

UNKNOWN = 65535  # ignored, or not labelled


def main():
    args = parse_arguments()
    config = load_config(args.config, args.cfg_options)
    loader = config.get(f'{args.split}_dataloader')
    if not loader:
        raise UserError(f'{args.config} has no {args.split}_dataloader; try another --split')
    dataset = require_data(loader)
    number = min(args.number, len(dataset))
    rows = np.linspace(0, len(dataset) - 1, number).round().astype(int)
    samples = [dataset[int(i)] for i in rows]
    names, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    cells = [cell(sample, palette, args.size) for sample in samples]
    sheet = grid(cells, [title(sample) for sample in samples], columns=args.columns)
    labels = np.concatenate([labels_of(s, len(names)).ravel() for s in samples])
    shares = shares_of(labels, len(names))
    if shares:
        sheet = beside([sheet, legend(shares, names, palette, height=len(sheet))])
    out = Path(args.out or f'{Path(args.config).stem}_{args.split}.png')
    write_image(Image.fromarray(sheet), out)
    print(f'{number} of {len(dataset)} photos: {out}')


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('--split', choices=['test', 'train', 'val'], default='test')
    parser.add_argument('--number', type=int, default=24, help='of photos, from all over the set')
    parser.add_argument('--columns', type=int, default=6)
    parser.add_argument('--size', type=int, default=192, help='pixels of a picture')
    parser.add_argument('--out', help='a .png; default CONFIG_SPLIT.png in this folder')
    args = parser.parse_args()
    for name in ('number', 'columns', 'size'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name} is 1 or more, not {getattr(args, name)}')
    return args


def cell(sample, palette, size):
    """A sample -> (size, size or 2 * size, 3) uint8: the photo, and where it has labels, they"""
    photo = sample['inputs'].permute(1, 2, 0).numpy()
    labels = labels_of(sample, len(palette))
    if not (labels != UNKNOWN).any():
        return fitted(photo, size)
    labels = np.asarray(Image.fromarray(labels).resize(photo.shape[1::-1], Image.NEAREST))
    return np.concatenate(
        [fitted(photo, size), fitted(blend(photo, labels, palette), size)], axis=1
    )


def labels_of(sample, num_classes):
    """A sample -> (H, W) uint16, UNKNOWN where nothing is known; all of it without a mask"""
    if 'gt_sem_seg' not in sample['data_samples']:
        return np.full(sample['inputs'].shape[1:], UNKNOWN, np.uint16)
    labels = sample['data_samples'].gt_sem_seg.numpy().astype(np.int64)
    known = (labels >= 0) & (labels < num_classes)
    return np.where(known, labels, UNKNOWN).astype(np.uint16)


def fitted(picture, size):
    """(H, W, 3) -> (size, size, 3), its shape kept, on grey"""
    image = ImageOps.contain(Image.fromarray(picture), (size, size), Image.BILINEAR)
    return np.asarray(ImageOps.pad(image, (size, size), color=(128, 128, 128)))


def title(sample):
    """A sample -> its caption, or the name of its photo"""
    found = sample['data_samples']
    return found.get('caption') or Path(found.img_path).stem


if __name__ == '__main__':
    run_command(main)
