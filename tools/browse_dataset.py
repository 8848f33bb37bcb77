"""One picture of many photos of a data set, with their labels, as the config's pipeline gives them.

python tools/browse_dataset.py CONFIG [--split test|train|val] [--number 24] [--out sheet.png]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mmseg.apis.command import add_config_arguments, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.visualization import beside, blend, grid, legend, shares_of

UNKNOWN = 65535  # ignored, or not labelled


def main() -> None:
    parser = documented_parser(__doc__)
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
    from mmseg.apis.result import write_image
    from mmseg.apis.test import require_data
    from mmseg.engine import load_config

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


def cell(sample: Mapping[str, Any], palette: Sequence[Any], size: int) -> np.ndarray:
    """Draw a sample as (size, size, 3): the photo; (size, 2 * size, 3) with its labels beside."""
    photo = sample['inputs'].permute(1, 2, 0).numpy()
    labels = labels_of(sample, len(palette))
    if not (labels != UNKNOWN).any():
        return fitted(photo, size)
    whole = Image.fromarray(labels).resize(photo.shape[1::-1], Image.Resampling.NEAREST)
    tinted = blend(photo, np.asarray(whole), palette)
    return np.concatenate([fitted(photo, size), fitted(tinted, size)], axis=1)


def labels_of(sample: Mapping[str, Any], num_classes: int) -> np.ndarray:
    """Return a sample's labels (H, W) uint16; UNKNOWN where there are none."""
    if 'gt_sem_seg' not in sample['data_samples']:
        return np.full(sample['inputs'].shape[1:], UNKNOWN, np.uint16)
    labels = sample['data_samples'].gt_sem_seg.numpy().astype(np.int64)
    known = (labels >= 0) & (labels < num_classes)
    return np.where(known, labels, UNKNOWN).astype(np.uint16)


def fitted(picture: np.ndarray, size: int) -> np.ndarray:
    """Fit (H, W, 3) into (size, size, 3) on grey; its aspect ratio stays."""
    image, grey = Image.fromarray(picture), (128, 128, 128)
    return np.asarray(ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR, grey))


def title(sample: Mapping[str, Any]) -> str:
    """Return a sample's caption, or the name of its photo."""
    packed = sample['data_samples']
    return packed.get('caption') or Path(packed.img_path).stem


if __name__ == '__main__':
    run_command(main)
