"""Training curves of one run or several: loss, agreement, learning rate, validation.

python tools/analyze_logs.py WORK_DIR [WORK_DIR ...] --out curves.png

Reads <work_dir>/<time>/vis_data/scalars.json; a run that was resumed is one curve.
"""

import argparse
import json
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mmseg.apis.command import run_command
from mmseg.apis.result import write_image
from mmseg.errors import UserError

PANELS = {  # keys of the log -> title; the first that a run has is drawn
    ('loss',): 'loss',
    ('acc_seg', 'retrieval'): 'agreement with the labels, or retrieval in the batch (%)',
    ('lr',): 'learning rate',
    ('mIoU', 'R@1'): 'validation: mIoU, or R@1 (%)',
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dirs', nargs='+', type=Path)
    parser.add_argument('--out', default='curves.png', help='a .png')
    args = parser.parse_args()
    runs = {folder: read_run(folder) for folder in args.work_dirs}
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout='constrained')
    for axis, (keys, title) in zip(axes.flat, PANELS.items()):
        for folder, rows in runs.items():
            draw(axis, rows, keys, label=folder.name)
        axis.set(title=title, xlabel='iteration')
        axis.spines[['top', 'right']].set_visible(False)
    if len(runs) > 1:
        axes[0, 0].legend(frameon=False)
    write_image(figure, args.out, dpi=100, format='png')
    print(f'written to {args.out}')


def read_run(folder):
    """A work dir -> {step: {key: number}}; where starts overlap, the later one counts.

    Lines that hold no step, such as the last one of a run that was cut off, are passed over.

    Raises:
        UserError: it holds no log of training.
    """
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    rows = {}
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


def is_number(value):
    """Whether a value of JSON can be drawn"""
    return type(value) in (int, float) and abs(value) < 1e30


def draw(axis, rows, keys, *, label):
    """The first of the keys that a run has; fractions in per cent."""
    for key in keys:
        at = [step for step, row in rows.items() if key in row]
        if at:
            factor = 100 if key in ('mIoU', 'R@1') else 1
            values = [factor * rows[step][key] for step in at]
            axis.plot(at, values, 'o-' if len(at) < 20 else '-', label=label, markersize=4)
            return


if __name__ == '__main__':
    run_command(main)
