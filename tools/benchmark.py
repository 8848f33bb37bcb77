"""How fast tests and training are on this machine, and where their time goes.

python tools/benchmark.py CONFIG ... --random-weights --synthetic --baseline --out FILE.json
python tools/benchmark.py CONFIG ... --train --batch 2 --random-weights --synthetic --baseline
python tools/benchmark.py --compare A.json B.json

End to end is the tools' own path (worker processes, batches, metric); the split times its stages
one after the other in this process. --baseline measures the same weights the plain way of
mmsegmentation 0.x as well, in turns with the fast way. The photos are the config's, a folder's
(--photos), or made up (--synthetic).
"""

import argparse
import tempfile
from pathlib import Path

import _checkout  # noqa: F401  first: it decides which mmseg is found
from _benchmark_report import as_text, compare, ratios, write_report
from _benchmark_test import benchmark_test
from _benchmark_train import benchmark_train

from mmseg.apis.command import ConfigOptions, run_command, settings_of
from mmseg.engine import PRECISIONS, load_config
from mmseg.errors import UserError
from mmseg.utils import output_dir


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', metavar='CONFIG')
    parser.add_argument('--compare', nargs=2, metavar=('A.json', 'B.json'), help='print ratios')
    parser.add_argument('--train', action='store_true', help='steps of training, not a test')
    parser.add_argument('--baseline', action='store_true', help='the plain way as well')
    parser.add_argument(
        '--sizes', nargs='+', type=int, default=[None], help="short sides; default the config's"
    )
    parser.add_argument('--batch', type=int, help="photos a pass; default the config's")
    parser.add_argument('--number', type=int, default=16, help='photos, or iterations, a repeat')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--photos', help="a folder of photos in place of the config's data")
    parser.add_argument('--synthetic', action='store_true', help='made-up photos of 500 x 375')
    parser.add_argument(
        '--random-weights', action='store_true', help='speed does not need real ones'
    )
    parser.add_argument('--precision', choices=PRECISIONS, default='auto', help='of the test')
    parser.add_argument('--compile', action='store_true', help='torch.compile, of the test')
    parser.add_argument('--device', help='cpu, or an accelerator; default the best there is')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    parser.add_argument('--out', help='a JSON file')
    return parser.parse_args()


def main():
    args = parse_arguments()
    check(args)
    if args.compare:
        print(compare(*args.compare))
        return
    if args.out:
        output_dir(Path(args.out).parent)
    for path in args.configs:  # all of them before the first is measured
        load_config(path, args.cfg_options)
    records = []
    for path in args.configs:
        for size in args.sizes:
            records += measure(path, args, size)
            if args.out:
                write_report(records, args.out)


def check(args):
    """
    Raises:
        UserError: options that do not go together, or numbers below 1.
    """
    if not args.configs and not args.compare:
        raise UserError('name a CONFIG to measure, or two files to --compare')
    if args.photos and args.synthetic:
        raise UserError('--photos and --synthetic exclude each other')
    if args.photos and not Path(args.photos).exists():
        raise UserError(f'--photos {args.photos} does not exist')
    for name in ('number', 'repeats', 'batch', 'sizes'):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                raise UserError(f'--{name} is at least 1, not {value}')
    if args.train and (args.compile or args.precision != 'auto'):
        raise UserError('--precision and --compile are of the test; a config says how to train')


def measure(path, args, size):
    """One config at one size -> its records, printed"""
    with tempfile.TemporaryDirectory() as folder, settings_of(load_config(path)):
        one = benchmark_train if args.train else benchmark_test
        records = one(path, args, folder, size)
    for record in records:
        print(as_text(record), flush=True)
    if args.baseline:
        print(f'    against the baseline:\n{ratios(*records[::-1])}', flush=True)
    return records


if __name__ == '__main__':
    run_command(main)
