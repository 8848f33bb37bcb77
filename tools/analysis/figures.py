"""Draw the committed figures of docs/ from the kept results in docs/benchmarks/.

python tools/analysis/figures.py fast_path                    # docs/images/fast_path.png
python tools/analysis/figures.py scaling --results DIR        # docs/images/scaling.png

DIR is that of a CPU, where tools/analysis/measure.sh wrote. --out names another picture.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[2] / 'docs'
WAYS = dict(config='#0072B2', baseline='#D55E00')
SCALING = dict(  # what grows: x axis, y axis, files
    size=('short side of the largest input, pixels', 'ms a photo, end to end', 'sizes.json'),
    classes=('classes', 'ms a photo, all but the network', 'classes_*.json'),
    photos=('photos', 'seconds, end to end', 'photos_*.json'),
)
WINDOW = 10  # iterations of the running mean of a loss


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('figure', choices=[*FIGURES])
    parser.add_argument('--results', type=Path, default=DOCS / 'benchmarks')
    parser.add_argument('--out', type=Path, help='a .png')
    args = parser.parse_args()
    from mmseg.apis.result import write_image

    out = args.out or DOCS / 'images' / f'{args.figure}.png'
    write_image(FIGURES[args.figure](args.results), out, dpi=110, format='png')
    print(f'written to {out}')


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records of a file of tools/benchmark.py."""
    try:
        return [record for record in json.loads(path.read_text())['results'] if record['rate']]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is no JSON file of tools/benchmark.py --out') from error


def draw_scaling(results: Path) -> 'Figure':
    """Draw how cost grows with the input's size, the number of classes and of photos."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout='constrained')
    axes = figure.subplots(1, 3)
    for (name, (x_label, y_label, files)), axis in zip(SCALING.items(), axes):
        records = [record for path in sorted(results.glob(files)) for record in read_records(path)]
        if not records:
            raise UserError(f'{results} holds no record in {files}')
        for way, colour in WAYS.items():
            points = sorted((r[name], *_cost(name, r)) for r in records if r['way'] == way)
            if points:
                x, low, middle, high = np.array(points, float).T
                bars = [middle - low, high - middle]
                axis.errorbar(x, middle, bars, color=colour, marker='o', capsize=3, label=way)
            for at, _, value, _ in points:
                text = f'{value:.0f}' if value >= 100 else f'{value:.2g}'
                axis.annotate(text, (at, value), (-5, 5), textcoords='offset points', ha='right')
        axis.set(xlabel=x_label, ylabel=y_label, ylim=(0, 1.15 * axis.get_ylim()[1]))
        axis.spines[['top', 'right']].set_visible(False)
        axis.set_xticks(sorted({r[name] for r in records}))
        axis.margins(x=0.15)
        axis.legend(frameon=False, loc='upper left')
    return figure


def _cost(name: str, record: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return (low, median, high) of what a panel shows."""
    if name == 'classes':
        low, middle, high = (record['beside_network_ms'][k] for k in ('low', 'median', 'high'))
        return low, middle, high
    total = 1000 if name == 'size' else record['photos']
    high, middle, low = (total / record['rate'][key] for key in ('low', 'median', 'high'))
    return low, middle, high


def draw_fast_path(results: Path) -> 'Figure':
    """Draw the losses of one training with the fast kernels and with plain PyTorch."""
    from matplotlib.figure import Figure

    kept = read_json(results / 'fast_path.json')
    fast, plain = kept['loss_fast'], kept['loss_plain']
    figure = Figure(figsize=(7, 5), layout='constrained')
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot(fast, '0.75', linewidth=0.8)
    above.plot(plain, '0.75', linewidth=0.8, label='each iteration')
    for losses, name, style in ((plain, 'plain PyTorch', 'C0-'), (fast, 'fast path', 'C1--')):
        mean = np.convolve(losses, np.ones(WINDOW) / WINDOW, 'valid')
        label = f'{name}, mean of {WINDOW}'
        above.plot(np.arange(WINDOW - 1, len(losses)), mean, style, label=label)
    above.set_ylabel('loss')
    above.legend()
    below.semilogy(np.maximum(np.abs(np.subtract(fast, plain)), 1e-8), 'C2', linewidth=0.8)
    below.set(ylabel='difference', xlabel='iteration')
    return figure


FIGURES = dict(scaling=draw_scaling, fast_path=draw_fast_path)


if __name__ == '__main__':
    run_command(main)
