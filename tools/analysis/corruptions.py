"""Evaluate a model under the 15 common corruptions at 5 severities: a table and a plot.

python tools/analysis/corruptions.py CONFIG [CHECKPOINT] [--severities 1 2 3 4 5] [--work-dir DIR]

The work folder gets corruptions.json, corruptions.md and corruptions.png. A stopped run continues.
Needs `pip install imagecorruptions-imaug`.
"""

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mmseg.apis.command import add_config_arguments, add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import Progress, output_dir, read_json, write_json, write_text

CLEAN = 'clean'


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--severities', type=int, nargs='+', default=[1, 2, 3, 4, 5])
    parser.add_argument('--work-dir', type=Path, help='default work_dirs/CONFIG/corruptions')
    add_device(parser)
    args = parser.parse_args()
    from mmseg.apis.test import default_work_dir
    from mmseg.engine import load_config

    config = load_config(args.config, args.cfg_options)
    root = output_dir(args.work_dir or default_work_dir(config) / 'corruptions')
    found = evaluate_all(config, args.checkpoint, args.severities, root, args.device)
    table = table_of(found, args.severities)
    write_text(root / 'corruptions.md', table)
    draw(found, args.severities, root / 'corruptions.png')
    print(f'{table}\nwritten to {root}')


def evaluate_all(
    config: Any, checkpoint: str | None, severities: Sequence[int], root: Path, device: str | None
) -> dict[str, float]:
    """Return {'clean': mIoU in per cent, 'fog 3': ...}; measure what corruptions.json lacks.

    Raises:
        UserError: the file is of another config, weights or options.
    """
    from mmseg.apis.test import test
    from mmseg.datasets.corruption import CORRUPTIONS

    path, made_of = root / 'corruptions.json', dict(config=config.pretty_text, weights=checkpoint)
    kept = read_json(path) if path.is_file() else made_of | dict(mIoU={})
    if {key: kept.get(key) for key in made_of} != made_of:
        raise UserError(f'{path} is of another config or checkpoint; choose another --work-dir')
    found: dict[str, float] = kept['mIoU']
    names = [CLEAN, *(f'{name} {severity}' for name in CORRUPTIONS for severity in severities)]
    with Progress(len(names), 'corruptions', unit='test') as progress:
        for name in names:
            if name not in found:
                with contextlib.redirect_stdout(io.StringIO()):  # 76 tables
                    values = test(
                        corrupted(config, name), checkpoint, work_dir=root / 'test', device=device
                    )
                found[name] = round(100 * values['mIoU'], 2)
                write_json(path, kept)
            progress.update(1)
    return found


def corrupted(config: Any, name: str) -> Any:
    """Copy a config whose test photos are corrupted by a name such as 'fog 3', or 'clean'."""
    config = copy.deepcopy(config)
    if name != CLEAN:
        kind, _, severity = name.partition(' ')
        step = dict(type='Corrupt', name=kind, severity=int(severity))
        config.test_dataloader.dataset.pipeline.insert(1, step)  # after the photo is loaded
    return config


def table_of(found: Mapping[str, float], severities: Sequence[int]) -> str:
    """Format the figures as Markdown: a row per corruption, their mean, and the clean figure."""
    from mmseg.datasets.corruption import CORRUPTIONS

    head = ['mIoU', *(f'severity {s}' for s in severities), 'mean', 'kept']
    lines = [f'| {" | ".join(head)} |', '|' + '---|' * len(head)]
    columns = {name: [found[f'{name} {s}'] for s in severities] for name in CORRUPTIONS}
    columns['mean'] = [mean(column) for column in zip(*columns.values())]
    for name, values in columns.items():
        share = mean(values) / found[CLEAN] if found[CLEAN] else 0.0
        cells = [f'{value:.1f}' for value in (*values, mean(values))]
        lines.append(f'| {" | ".join([name.replace("_", " "), *cells, f"{100 * share:.0f} %"])} |')
    return '\n'.join(lines) + f'\n\nWithout corruption: {found[CLEAN]:.2f}.\n'


def draw(found: Mapping[str, float], severities: Sequence[int], path: Path) -> None:
    """Draw mIoU over severity, a panel per group of corruptions."""
    from matplotlib.figure import Figure

    from mmseg.apis.result import write_image
    from mmseg.datasets.corruption import GROUPS

    figure = Figure(figsize=(12, 3.4), layout='constrained')
    for axes, (group, names) in zip(figure.subplots(1, 4, sharey=True), GROUPS.items()):
        for name in names:
            values = [found[CLEAN], *(found[f'{name} {s}'] for s in severities)]
            axes.plot([0, *severities], values, marker='o', label=name.replace('_', ' '))
        axes.set(title=group, xlabel='severity (0: clean)', ylim=(0, None))
        axes.legend(frameon=False, fontsize=8)
        axes.spines[['top', 'right']].set_visible(False)
    figure.axes[0].set_ylabel('mIoU (%)')
    write_image(figure, path, dpi=110, format='png')


if __name__ == '__main__':
    run_command(main)
