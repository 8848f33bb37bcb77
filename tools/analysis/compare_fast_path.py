"""Whether the fast ways of a training step change what is learned: two loss curves, one picture.

python tools/analysis/compare_fast_path.py CONFIG --iterations 100 --out NAME

The same student is trained twice from the same seed on the same crops: as always, and within
`mmseg.kernels.plain`. NAME.json holds both curves, NAME.png shows them.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg import kernels
from mmseg.apis.command import ConfigOptions, run_command
from mmseg.apis.train import train
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir

WINDOW = 10  # iterations of the running mean that is drawn


def main():
    args = parse_arguments()
    if args.iterations < WINDOW:
        raise UserError(f'--iterations is {WINDOW} or more')
    output_dir(Path(args.out).parent)
    fast = curve(args)
    with kernels.plain():
        plain = curve(args)
    report = dict(
        config=args.config,
        options={k: str(v) for k, v in args.cfg_options.items()},
        machine=f'{platform.system()} {platform.machine()}, PyTorch {torch.__version__}',
        date=time.strftime('%Y-%m-%d'),
        **compared(fast, plain),
        loss_fast=fast,
        loss_plain=plain,
    )
    with atomic_path(f'{args.out}.json') as temporary:
        temporary.write_text(json.dumps(report, indent=1))
    draw(fast, plain, f'{args.out}.png')
    for name in ('first_20_largest_difference', 'last_10_fast', 'last_10_plain'):
        print(f'{name.replace("_", " ")}: {report[name]:.6f}')


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    parser.add_argument('--iterations', type=int, default=100)
    parser.add_argument('--out', required=True, metavar='NAME', help='of a .json and a .png')
    return parser.parse_args()


def curve(args):
    """-> the loss of every iteration of a training on the CPU"""
    config = load_config(args.config, args.cfg_options)
    config.train_cfg.max_iters = args.iterations
    config.default_hooks.logger.interval = 1
    config.default_hooks.checkpoint.interval = args.iterations + 1
    config.log_processor.window_size = 1
    with tempfile.TemporaryDirectory() as folder:
        train(config, work_dir=folder, validate=False, device='cpu')
        lines = next(Path(folder).glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [row['loss'] for row in map(json.loads, lines) if 'loss' in row]


def compared(fast, plain):
    """Two curves -> how far they are apart: at the start by rounding, later as two runs are"""
    apart = np.abs(np.subtract(fast, plain))
    return dict(
        first_20_largest_difference=float(apart[:20].max()),
        mean_difference=float(apart.mean()),
        last_10_fast=float(np.mean(fast[-WINDOW:])),
        last_10_plain=float(np.mean(plain[-WINDOW:])),
    )


def draw(fast, plain, path):
    """Two curves, their running means, and the distance between them."""
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(7, 5), sharex=True, height_ratios=(3, 1), layout='constrained'
    )
    for losses, name, style in ((plain, 'plain PyTorch', 'C0-'), (fast, 'fast path', 'C1--')):
        above.plot(losses, style, alpha=0.25, linewidth=0.8)
        mean = np.convolve(losses, np.ones(WINDOW) / WINDOW, 'valid')
        above.plot(np.arange(WINDOW - 1, len(losses)), mean, style, label=name)
    above.set_ylabel('loss')
    above.legend()
    below.semilogy(np.maximum(np.abs(np.subtract(fast, plain)), 1e-8), 'C2', linewidth=0.8)
    below.set(ylabel='difference', xlabel='iteration')
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


if __name__ == '__main__':
    run_command(main)
