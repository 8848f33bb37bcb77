"""Two runs of tools/test.py side by side: IoU per class, and the label maps of some photos.

python tools/analysis/compare_runs.py WORK_DIR_A WORK_DIR_B --names MaskCLIP '+ class weight' \\
    --labels LABELS_A LABELS_B --photos 2007_000491 ... --out picture.png
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir

COLOURS = ('#9aa5b1', '#1f6fb2')


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dirs', nargs=2, help='folders with an eval_single_scale_*.json')
    parser.add_argument('--names', nargs=2, default=('A', 'B'))
    parser.add_argument('--labels', nargs=2, help="the two runs' --out folders")
    parser.add_argument('--photos', nargs='+', default=[], help='names without suffix')
    parser.add_argument('--out', required=True)
    return parser.parse_args()


def main():
    args = parse_arguments()
    output_dir(Path(args.out).parent)
    runs = [newest_result(folder) for folder in args.work_dirs]
    columns = max(len(args.photos), 1)
    heights = [1, 1, 1.6] if args.photos else [1]
    figure = plt.figure(figsize=(11, 7.5 if args.photos else 3.5), layout='constrained')
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for row, folder in enumerate(args.labels if args.photos else []):
        for column, photo in enumerate(args.photos):
            axis = figure.add_subplot(grid[row, column])
            axis.imshow(Image.open(Path(folder) / f'{photo}.png').convert('RGB'))
            axis.set(xticks=[], yticks=[], xlabel=photo if row else '')
            axis.set_ylabel('' if column else args.names[row], fontsize=12)
    draw_bars(figure.add_subplot(grid[-1, :]), runs, args.names)
    with atomic_path(args.out) as path:
        figure.savefig(path, dpi=110)
    print(f'written to {args.out}')


def newest_result(folder):
    """The newest eval_single_scale_*.json of a work dir -> its content."""
    files = sorted(Path(folder).glob('eval_single_scale_*.json'))
    if not files:
        raise UserError(f'{folder} has no eval_single_scale_*.json; run tools/test.py --eval mIoU')
    return json.loads(files[-1].read_text())


def draw_bars(axis, runs, names):
    """IoU per class of both runs, ordered by the second's, and their means in the legend."""
    classes = [k.removeprefix('IoU.') for k in runs[1]['metric'] if k.startswith('IoU.')]
    values = np.array([[100 * (run['metric'][f'IoU.{c}'] or 0) for c in classes] for run in runs])
    order = np.argsort(-values[1])
    for i, (run, name) in enumerate(zip(runs, names)):
        label = f'{name}: mIoU {100 * run["metric"]["mIoU"]:.1f}'
        at = np.arange(len(classes)) + 0.4 * i
        axis.bar(at, values[i][order], width=0.4, color=COLOURS[i], label=label)
    axis.set_xticks(np.arange(len(classes)) + 0.2, [classes[i] for i in order], rotation=60)
    axis.set_ylabel('IoU (%)')
    axis.legend(frameon=False)
    axis.spines[['top', 'right']].set_visible(False)


if __name__ == '__main__':
    run_command(main)
