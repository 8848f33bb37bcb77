"""Training curves of one run or several: loss, agreement, learning rate, validation.

python tools/analyze_logs.py WORK_DIR [WORK_DIR ...] --out curves.png

Reads <work_dir>/<time>/vis_data/scalars.json; a run that was resumed is one curve.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {  # keys of the log -> title; the first that a run has is drawn
    ('loss',): 'loss',
    ('acc_seg', 'retrieval'): 'agreement with the labels, or retrieval in the batch (%)',
    ('lr',): 'learning rate',
    ('mIoU', 'R@1'): 'validation: mIoU, or R@1 (%)',
}


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('work_dirs', nargs='+', type=Path)
    parser.add_argument('--out', default='curves.png', help='a .png')
    args = parser.parse_args()
    runs = {folder: read_run(folder) for folder in args.work_dirs}
    from matplotlib.figure import Figure

    from mmseg.apis.result import write_image

    figure = Figure(figsize=(11, 7), layout='constrained')
    axes = figure.subplots(2, 2)
    for axis, (keys, title) in zip(axes.flat, PANELS.items()):
        for folder, rows in runs.items():
            draw(axis, rows, keys, label=folder.name)
        axis.set(title=title, xlabel='iteration')
        axis.spines[['top', 'right']].set_visible(False)
    if len(runs) > 1:
        axes[0, 0].legend(frameon=False)
    write_image(figure, args.out, dpi=100, format='png')
    print(f'written to {args.out}')


def read_run(folder: Path) -> dict[float, dict[str, float]]:
    """Read a work dir as {step: {key: number}}; where starts overlap, the later one counts.

    Lines that hold no step, such as the last one of a run that was cut off, are skipped.

    Raises:
        UserError: it holds no log of training.
    """
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    rows: dict[float, dict[str, float]] = {}
    for file in files:
        for line in file.read_text(errors='replace').splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and is_number(row.get('step')):
                numbers = {key: value for key, value in row.items() if is_number(value)}
                rows.setdefault(row['step'], {}).update(numbers)
    if not rows:
        raise UserError(f'{folder} holds no */vis_data/scalars.json of tools/train.py')
    return dict(sorted(rows.items()))


def is_number(value: Any) -> bool:
    """Return whether a value of JSON can be drawn."""
    return type(value) in (int, float) and abs(value) < 1e30


def draw(
    axis: 'Axes', rows: Mapping[float, Mapping[str, float]], keys: Sequence[str], *, label: str
) -> None:
    """Draw the first of the keys that a run has; fractions in per cent."""
    for key in keys:
        steps = [step for step, row in rows.items() if key in row]
        if steps:
            factor = 100 if key in ('mIoU', 'R@1') else 1
            values = [factor * rows[step][key] for step in steps]
            axis.plot(steps, values, 'o-' if len(steps) < 20 else '-', label=label, markersize=4)
            return


if __name__ == '__main__':
    run_command(main)
