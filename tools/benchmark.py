"""Measure the speed of tests and training on this machine, stage by stage.

python tools/benchmark.py CONFIG ... --random-weights --synthetic --baseline --out FILE.json
python tools/benchmark.py CONFIG ... --train --batch 2 --random-weights --synthetic --baseline
python tools/benchmark.py --compare A.json B.json

End to end runs as the tools do (worker processes, batches, metric); the split times its stages
one after the other in this process. --baseline measures the same weights with plain PyTorch in fp32
as well, one photo at a time, as mmsegmentation 0.x does, and --engines by other engines. All ways
of all configs take turns; a ratio is the median of the turns' ratios, to the config's baseline or
to the first config. The photos are the config's, or made up (--synthetic). Where other processes
work, nothing is measured (--force).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg.apis.command import add_config_options, add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import output_dir, write_json

MOST_LOAD = 0.15  # cores that others may keep busy
SAME = ('what', 'config', 'way', 'size', 'batch', 'classes')  # of two records that are compared
Record = Mapping[str, Any]


def parse_arguments() -> argparse.Namespace:
    parser = documented_parser(__doc__)
    parser.add_argument('configs', nargs='*', metavar='CONFIG')
    parser.add_argument('--compare', nargs=2, metavar=('A.json', 'B.json'), help='print ratios')
    parser.add_argument('--train', action='store_true', help='steps of training, not a test')
    parser.add_argument('--baseline', action='store_true', help='plain PyTorch as well')
    parser.add_argument(
        '--engines', nargs='+', default=[], metavar='NAME:PRECISION', help='e.g. onnxruntime:int8'
    )
    parser.add_argument(
        '--sizes', nargs='+', type=int, default=[None], help="short sides; default the config's"
    )
    parser.add_argument('--batch', type=int, help="photos a pass; default the config's")
    parser.add_argument('--number', type=int, default=4, help='photos, or iterations, a turn')
    parser.add_argument('--repeats', type=int, default=5, help='turns of each way')
    parser.add_argument('--force', action='store_true', help='measure though other processes work')
    parser.add_argument('--synthetic', action='store_true', help='made-up photos of 500 x 375')
    parser.add_argument(
        '--random-weights', action='store_true', help='speed does not need real ones'
    )
    add_device(parser)
    add_config_options(parser)
    parser.add_argument('--out', help='a JSON file')
    args = parser.parse_args()
    if not args.configs and not args.compare:
        raise UserError('name a CONFIG to measure, or two files to --compare')
    for name in ('number', 'repeats', 'batch', 'sizes'):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                raise UserError(f'--{name} is at least 1, not {value}')
    return args


def main() -> None:
    args = parse_arguments()
    if args.compare:
        print(compare(*args.compare))
        return
    from _benchmark import busy_cores, machine, measure

    from mmseg.engine import load_config

    if args.out:
        output_dir(Path(args.out).parent)
    for path in args.configs:  # all of them before the first is measured
        load_config(path, args.cfg_options)
    load = [busy_cores()]
    require_idle(load, args.force)
    records = measure([(path, size) for path in args.configs for size in args.sizes], args, load)
    load.append(busy_cores())
    print('\n'.join(map(as_text, records)), flush=True)
    require_idle(load, args.force)
    if args.out:
        others = dict(before=load[0], most=max(load), after=load[-1])
        about = dict(machine(), cores_busy_by_others=others)
        write_json(args.out, dict(machine=about, results=records))


def require_idle(load: Sequence[float], force: bool) -> None:
    """Raise UserError if other processes kept more than MOST_LOAD cores busy."""
    if max(load) > MOST_LOAD and not force:
        raise UserError(
            f'other processes keep {max(load):.1f} cores busy, so no figure is kept: wait until '
            'they end, or --force'
        )


def read_report(path: str | Path) -> dict[tuple[str, ...], Record]:
    """Read the records of a file of --out, by what they measure.

    Raises:
        UserError: no such file, or not one of these.
    """
    try:
        records = json.loads(Path(path).read_text(encoding='utf-8'))['results']
        return {tuple(str(r.get(k)) for k in SAME): r for r in records if r['rate']['median']}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is no JSON file of tools/benchmark.py --out') from error


def compare(first: str, second: str) -> str:
    """Describe how many times as fast the second report is, record by record.

    Raises:
        UserError: they have no record in common.
    """
    a, b = read_report(first), read_report(second)
    lines = [f'{title(a[key])}\n{ratios(a[key], b[key])}' for key in a if key in b]
    if not lines:
        raise UserError(f'{first} and {second} measure no config in common')
    return f'{second} against {first}; above 1 the second is better\n' + '\n'.join(lines)


def ratios(a: Record, b: Record) -> str:
    """Describe the ratios of rate, stages and memory; above 1 the second record is better."""
    pairs = [(a['rate']['unit'], b['rate']['median'], a['rate']['median'])]
    for name, value in a['split_ms'].items():
        if name in b['split_ms']:
            pairs.append((name, value['median'], b['split_ms'][name]['median']))
    if 'beside_network_ms' in a and 'beside_network_ms' in b:
        both = (r['beside_network_ms']['median'] for r in (a, b))
        pairs.append(('all but the network', *both))
    for name in ('host_mib', 'device_mib'):
        if a['memory'].get(name) and b['memory'].get(name):
            pairs.append((name.replace('_mib', ' memory'), a['memory'][name], b['memory'][name]))
    return '    ' + '   '.join(f'{name} {n / d:.2f}x' for name, n, d in pairs if d)


def title(record: Record) -> str:
    """Name a record: 'configs/... (test, onnxruntime:int8, 520, batch 4)'."""
    size = f', {record["size"]}' if record['size'] else ''
    return f'{record["config"]} ({record["what"]}, {record["way"]}{size}, batch {record["batch"]})'


def as_text(record: Record) -> str:
    """Describe a record in a few lines."""
    rate = record['rate']
    split = '   '.join(f'{name} {x["median"]:.1f}' for name, x in record['split_ms'].items())
    if 'beside_network_ms' in record:
        split += f'   all but the network {record["beside_network_ms"]["median"]:.1f}'
    memory = (f'{k.removesuffix("_mib")} {v} MiB' for k, v in record['memory'].items() if v)
    lines = [
        f'{title(record)} on {record["device"]}: {rate["median"]:.3g} {rate["unit"]} '
        f'({rate["low"]:.3g} to {rate["high"]:.3g})',
        f'    ms each: {split}',
        f'    peak memory: {", ".join(memory)}',
    ]
    if 'ratio' in record:
        ratio = record['ratio']
        lines.append(
            f'    {ratio["median"]:.2f} times as fast as {ratio["to"]} '
            f'({ratio["low"]:.2f} to {ratio["high"]:.2f})'
        )
    if 'labels_kept' in record:
        lines.append(f'    labels as there: {100 * record["labels_kept"]:.3f} %')
    return '\n'.join(lines)


if __name__ == '__main__':
    run_command(main)
