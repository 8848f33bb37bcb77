"""Tables and figures of what `miniature_study.py` found: means over the seeds, and their spread.

python tools/analysis/draw_miniature_study.py work_dirs/miniature_study --out study.png
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir

TOWERS = dict(
    rn=('ResNet', '#1f6fb2'), vit=('ViT, patch 8', '#c2571a'), vit16=('ViT, patch 16', '#6b7a3a')
)
PANELS = dict(
    tau='class weight: temperature tau',
    tau_centred='the same, each class by its usual cosine',
    pd_thresh='prompt denoising: threshold',
    ks_thresh='key smoothing: threshold',
    size='pixels of a side (drawn at 64)',
    typical="share of things in their shape's own colour",
)
LOGARITHMIC = ('tau', 'tau_centred')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', help='of miniature_study.py')
    parser.add_argument('--out', required=True, help='a .png')
    args = parser.parse_args()
    found = {tower: read_seeds(Path(args.work_dir), tower) for tower in TOWERS}
    found = {tower: seeds for tower, seeds in found.items() if seeds}
    if not found:
        raise UserError(f'{args.work_dir} holds no results; run tools/analysis/miniature_study.py')
    print_rows(found)
    for name in PANELS:
        print_sweep(found, name)
    output_dir(Path(args.out).parent)
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout='constrained')
    for axis, name in zip(axes.flat, PANELS):
        draw_sweep(axis, found, name)
    axes[0, 0].legend(frameon=False)
    with atomic_path(args.out) as path:
        figure.savefig(path, dpi=100, format='png')
    print(f'\nwritten to {args.out}')


def read_seeds(folder, tower):
    """-> what each seed's file says, in the order of the seeds"""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f'{tower}_[0-9]*.json'))]


def mean_and_spread(values):
    """Numbers -> 'mean ± standard deviation' over the seeds"""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float('nan')
    return f'{np.mean(values):.1f} ± {deviation:.1f}'


def print_rows(found):
    """A markdown table of what has one value a seed."""
    rows = {tower: [flat(seed) for seed in seeds] for tower, seeds in found.items()}
    names = list(dict.fromkeys(name for seeds in rows.values() for name in seeds[0]))
    titles = [f'{TOWERS[t][0]} ({len(seeds)} seeds)' for t, seeds in rows.items()]
    print_table(
        ['', *titles],
        [[n, *(cell([s.get(n) for s in seeds]) for seeds in rows.values())] for n in names],
    )


def flat(seed):
    """A file's content -> {name: value}; the usual tau beside the rest"""
    single = {k: seed[k] for k in ('tokens', 'base') if k in seed}
    weighed = {f'class weight, tau 1{v}': seed['sweeps'][k]['1.0'] for k, v in CENTRED.items()}
    return {**seed['retrieval'], **single, **weighed, **seed.get('students', {})}


CENTRED = {'tau': '', 'tau_centred': ', centred'}


def cell(values):
    return '' if None in values else mean_and_spread(values)


def print_sweep(found, name):
    """A markdown table of one setting: a row a tower, a column a value."""
    values = list(next(iter(found.values()))[0]['sweeps'][name])
    rows = [
        [TOWERS[t][0], *(mean_and_spread([s['sweeps'][name][v] for s in seeds]) for v in values)]
        for t, seeds in found.items()
    ]
    print_table([PANELS[name], *values], rows)


def print_table(head, rows):
    print('\n| ' + ' | '.join(head) + ' |\n' + '|---' * len(head) + '|')
    for row in rows:
        print('| ' + ' | '.join(row) + ' |')


def draw_sweep(axis, found, name):
    """Mean over the seeds, least to most as a band; dashed: MaskCLIP without the setting."""
    for tower, seeds in found.items():
        title, colour = TOWERS[tower]
        at = [float(value) for value in seeds[0]['sweeps'][name]]
        curves = np.array([list(seed['sweeps'][name].values()) for seed in seeds])
        axis.plot(at, curves.mean(axis=0), 'o-', color=colour, label=title, markersize=4)
        axis.fill_between(
            at, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, linewidth=0
        )
        if name not in ('size', 'typical'):
            base = np.mean([seed['base'] for seed in seeds])
            axis.axhline(base, color=colour, linestyle='--', linewidth=1)
    axis.set(
        xlabel=PANELS[name], ylabel='mIoU (%)', xscale='log' if name in LOGARITHMIC else 'linear'
    )
    axis.spines[['top', 'right']].set_visible(False)


if __name__ == '__main__':
    run_command(main)
