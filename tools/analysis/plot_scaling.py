"""How cost grows with the input's size, the number of classes and of photos: a picture of JSONs.

python tools/analysis/plot_scaling.py --size A.json ... --classes B.json ... --photos C.json ... \\
    --out docs/images/scaling.png

The files are of tools/benchmark.py --out; each panel takes the records of its files, the fast way
and, where it was measured, the baseline. Bars span the repeats.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found
from _benchmark_report import read_report

from mmseg.apis.command import run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir

COLOURS = dict(fast='#0072B2', baseline='#D55E00')
PANELS = dict(
    size=('short side of the largest input, pixels', 'ms a photo, end to end'),
    classes=('classes', 'ms a photo, all but the network'),
    photos=('photos', 'seconds, end to end'),
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in PANELS:
        parser.add_argument(f'--{name}', nargs='+', required=True, metavar='FILE.json')
    parser.add_argument('--out', required=True, help='a PNG')
    args = parser.parse_args()
    output_dir(Path(args.out).parent)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout='constrained')
    for name, axis in zip(PANELS, axes):
        draw(axis, name, getattr(args, name))
    with atomic_path(args.out) as temporary:
        figure.savefig(temporary, dpi=110)


def draw(axis, name, paths):
    """One panel of the files' records: a line a way"""
    records = [record for path in paths for record in read_report(path).values()]
    if not records or any(record.get(name) is None for record in records):
        raise UserError(f'{", ".join(paths)}: no tests whose {name} is told (--sizes tells a size)')
    for way, colour in COLOURS.items():
        points = sorted((r[name], *cost(name, r)) for r in records if r['way'] == way)
        if not points:
            continue
        x, low, middle, high = zip(*points)
        bars = [[m - a for m, a in zip(middle, low)], [b - m for m, b in zip(middle, high)]]
        axis.errorbar(x, middle, yerr=bars, color=colour, marker='o', capsize=3, label=way)
        for at, value in zip(x, middle):
            axis.annotate(
                f'{value:.0f}' if value >= 100 else f'{value:.2g}',
                (at, value),
                (0, 7),
                textcoords='offset points',
                ha='center',
            )
    if not axis.lines:
        raise UserError(f'no record of a test in {", ".join(paths)}')
    label, unit = PANELS[name]
    axis.set(xlabel=label, ylabel=unit, ylim=(0, 1.15 * axis.get_ylim()[1]))
    axis.spines[['top', 'right']].set_visible(False)
    axis.set_xticks(sorted({r[name] for r in records}))
    axis.margins(x=0.12)
    axis.legend(frameon=False, loc='upper left')


def cost(name, record):
    """-> (low, median, high) of what the panel shows"""
    if name == 'classes':
        return tuple(record['beside_network_ms'][key] for key in ('low', 'median', 'high'))
    each = 1000 if name == 'size' else record['photos']
    return tuple(each / record['rate'][key] for key in ('high', 'median', 'low'))


if __name__ == '__main__':
    run_command(main)
