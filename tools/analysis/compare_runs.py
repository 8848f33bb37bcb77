"""IoU per class of one run of tools/test.py or several, as bars.

python tools/analysis/compare_runs.py WORK_DIR [WORK_DIR ...] [--names MaskCLIP ...] --out bars.png
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ('#9aa5b1', '#1f6fb2', '#e08a1e', '#3c8d5a', '#8a5fbf')


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('work_dirs', nargs='+', help='folders with an eval_single_scale_*.json')
    parser.add_argument('--names', nargs='+', help="of the runs; default the folders'")
    parser.add_argument('--out', required=True)
    args = parser.parse_args()
    args.names = args.names or [Path(folder).name for folder in args.work_dirs]
    number = len(args.work_dirs)
    if number > len(COLOURS):
        raise UserError(f'at most {len(COLOURS)} runs go into one picture, not {number}')
    if len(args.names) != number:
        raise UserError(f'{len(args.names)} --names for {number} runs')
    from matplotlib.figure import Figure

    from mmseg.apis.result import write_image

    runs = [newest_result(folder) for folder in args.work_dirs]
    figure = Figure(figsize=(11, 3.5), layout='constrained')
    draw_bars(figure.add_subplot(), runs, args.names)
    write_image(figure, args.out, dpi=110)
    print(f'written to {args.out}')


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
