"""Draw the confusion matrix of labels that tools/test.py wrote.

python tools/test.py CONFIG [CHECKPOINT] --out labels
python tools/analysis/confusion_matrix.py CONFIG labels --out confusion.png

Rows are the truth, in per cent of its pixels, the most frequent class on top; the counts go to a
.npy beside the picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.apis.command import add_config_arguments, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path, unique_names

WRITTEN_UP_TO = 25  # classes whose cells hold their numbers


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument('labels', type=Path, help="tools/test.py's --out folder")
    parser.add_argument('--out', default='confusion.png', help='a .png')
    args = parser.parse_args()
    from mmseg.apis.test import require_data
    from mmseg.engine import load_config

    dataset = require_data(load_config(args.config, args.cfg_options).get('test_dataloader'))
    counts = count(dataset, args.labels)
    with atomic_path(Path(args.out).with_suffix('.npy')) as path:
        np.save(path, counts)
    draw(counts, dataset.metainfo['classes'], args.out)
    print(f'written to {args.out}')


def count(dataset: Any, folder: Path) -> np.ndarray:
    """Count (C, C) pixels, truth x prediction, of a data set's masks and a folder of label PNGs.

    Raises:
        UserError: a label map is missing, of another size than the mask, or with pixels of no
            class; no masks at all.
    """
    import torch

    from mmseg.datasets.reading import read_mask
    from mmseg.evaluation import confusion_matrix

    size = len(dataset.metainfo['classes'])
    total = np.zeros((size, size), np.int64)
    paths = [Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset))]
    names = unique_names(paths)
    for i, path in enumerate(paths):
        sample = dataset[i]['data_samples']
        if 'gt_sem_seg' not in sample:
            raise UserError('the data set has no masks to compare with')
        file, truth = folder / f'{names[str(path)]}.png', sample.gt_sem_seg
        labels = read_mask(file, truth.shape, num_classes=size)
        if labels.max() >= size:
            raise UserError(f'{file} has pixels of no class; compare labels without a threshold')
        total += confusion_matrix(torch.from_numpy(labels), truth, size).numpy()
    return total


def draw(counts: np.ndarray, names: Sequence[str], out: str) -> None:
    """Draw the classes that occur in (C, C) pixels."""
    from matplotlib.figure import Figure

    from mmseg.apis.result import write_image

    order = [i for i in np.argsort(-counts.sum(axis=1), kind='stable') if counts[i].sum()]
    if not order:
        raise UserError('no pixel of the data set is labelled')
    shares = 100 * counts[np.ix_(order, order)] / counts[order].sum(axis=1, keepdims=True)
    side = 2.5 + 0.36 * len(order)
    figure = Figure(figsize=(side, side), layout='constrained')
    axis = figure.subplots()
    image = axis.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    ticks = [names[i] for i in order]
    axis.set_xticks(range(len(order)), ticks, rotation=90)
    axis.set_yticks(range(len(order)), ticks)
    axis.set(xlabel='prediction', ylabel='truth', title="% of the truth's pixels")
    figure.colorbar(image, shrink=0.6)
    for row, column in np.ndindex(*shares.shape) if len(order) <= WRITTEN_UP_TO else ():
        share = shares[row, column]
        if share >= 0.5:
            colour = 'white' if share > 60 else 'black'
            axis.text(
                column, row, f'{share:.0f}', ha='center', va='center', color=colour, fontsize=7
            )
    write_image(figure, out, dpi=110, format='png')


if __name__ == '__main__':
    run_command(main)
