"""IoU per class of one run of tools/test.py or several, as bars; and the label maps of some photos.

python tools/analysis/compare_runs.py WORK_DIR --out bars.png
python tools/analysis/compare_runs.py WORK_DIR_A WORK_DIR_B --names MaskCLIP '+ class weight' \\
    --labels LABELS_A LABELS_B --photos 2007_000491 ... --out picture.png
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import read_image, read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ('#9aa5b1', '#1f6fb2', '#e08a1e', '#3c8d5a', '#8a5fbf')


def parse_arguments() -> argparse.Namespace:
    parser = documented_parser(__doc__)
    parser.add_argument('work_dirs', nargs='+', help='folders with an eval_single_scale_*.json')
    parser.add_argument('--names', nargs='+', help="of the runs; default the folders'")
    parser.add_argument('--labels', nargs='+', default=[], help="the runs' --out folders")
    parser.add_argument('--photos', nargs='+', default=[], help='names without suffix')
    parser.add_argument('--out', required=True)
    args = parser.parse_args()
    args.names = args.names or [Path(folder).name for folder in args.work_dirs]
    _check_numbers(args)
    return args


def _check_numbers(args: argparse.Namespace) -> None:
    runs = len(args.work_dirs)
    if runs > len(COLOURS):
        raise UserError(f'at most {len(COLOURS)} runs go into one picture, not {runs}')
    if len(args.names) != runs:
        raise UserError(f'{len(args.names)} --names for {runs} runs')
    if len(args.labels) not in (0, runs) or bool(args.labels) != bool(args.photos):
        raise UserError('--labels and --photos go together, with one folder of labels a run')


def main() -> None:
    args = parse_arguments()
    from matplotlib.figure import Figure

    from mmseg.apis.result import write_image

    runs = [newest_result(folder) for folder in args.work_dirs]
    rows = len(args.labels)
    figure = Figure(figsize=(11, 3.5 + 2.3 * rows), layout='constrained')
    heights = [*[1] * rows, *[0.3] * bool(rows), 1.6]
    grid = figure.add_gridspec(len(heights), max(len(args.photos), 1), height_ratios=heights)
    colours: dict[int, tuple[int, ...]] = {}
    for row, folder in enumerate(args.labels):
        for column, photo in enumerate(args.photos):
            axis = figure.add_subplot(grid[row, column])
            picture, shown = label_map(folder, photo)
            colours |= shown
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[], xlabel=photo if row == rows - 1 else '')
            axis.set_ylabel('' if column else args.names[row], fontsize=12)
    if rows:
        draw_legend(figure.add_subplot(grid[-2, :]), colours, list(runs[0][1]))
    draw_bars(figure.add_subplot(grid[-1, :]), runs, args.names)
    write_image(figure, args.out, dpi=110)
    print(f'written to {args.out}')


def label_map(folder: str, photo: str) -> tuple[np.ndarray, dict[int, tuple[int, ...]]]:
    """Read the label PNG of a photo: (H, W, 3), and the colour of each class in it."""
    path = Path(folder) / f'{photo}.png'
    if not path.is_file():
        raise UserError(f'no such labels: {path}; tools/test.py --out writes them')
    labels = read_image(path, np.asarray)
    picture = np.asarray(read_image(path, lambda image: image.convert('RGB')))
    classes, first = np.unique(labels, return_index=True)
    return picture, dict(zip(classes.tolist(), map(tuple, picture.reshape(-1, 3)[first].tolist())))


def draw_legend(axis: 'Axes', colours: Mapping[int, tuple[int, ...]], names: Sequence[str]) -> None:
    """Name the colours of the label maps, in the order of the classes."""
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=np.array(colours[i]) / 255,
            edgecolor='#222222',
            linewidth=0.5,
            label=names[i] if i < len(names) else 'no class',
        )
        for i in sorted(colours)
    ]
    axis.axis('off')
    axis.legend(handles=handles, loc='center', ncols=8, frameon=False, handlelength=1)


def newest_result(folder: str | Path) -> tuple[float, dict[str, float]]:
    """Read mIoU and {class: IoU} of the newest eval_single_scale_*.json of a work dir.

    Raises:
        UserError: there is none, or it is not a result of tools/test.py.
    """

    files = sorted(Path(folder).glob('eval_single_scale_*.json'))
    if not files:
        raise UserError(f'{folder} has no eval_single_scale_*.json; run tools/test.py --eval mIoU')
    content = read_json(files[-1])
    try:
        metric = {k: 0.0 if v is None else float(v) for k, v in content['metric'].items()}
        table = {k.removeprefix('IoU.'): v for k, v in metric.items() if k.startswith('IoU.')}
        return metric['mIoU'], table
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f'{files[-1]} is no result of tools/test.py: {error!r}') from error


def draw_bars(
    axis: 'Axes', runs: Sequence[tuple[float, dict[str, float]]], names: Sequence[str]
) -> None:
    """Draw the IoU per class of all runs, ordered by the last's, their means in the legend."""
    order = sorted(runs[-1][1], key=lambda name: -runs[-1][1][name])
    width = 0.8 / len(runs)
    for i, ((miou, table), name) in enumerate(zip(runs, names, strict=True)):
        if set(table) != set(order):
            raise UserError(f'{name} and {names[-1]} have other classes; compare like with like')
        label = f'{name}: mIoU {100 * miou:.1f}'
        values = [100 * table[c] for c in order]
        at = np.arange(len(order)) + width * i
        axis.bar(at, values, width=width, color=COLOURS[i], label=label)
    middle = np.arange(len(order)) + width * (len(runs) - 1) / 2
    axis.set_xticks(middle, order, rotation=60, ha='right', rotation_mode='anchor')
    axis.set_ylabel('IoU (%)')
    axis.margins(x=0.01)
    axis.legend(frameon=False)


if __name__ == '__main__':
    run_command(main)
