"""Tables of tools/benchmark.py's JSONs, in Markdown.

python tools/analysis/tabulate_benchmarks.py FILE.json ...
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found
from _benchmark_report import read_report

from mmseg.apis.command import run_command


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', metavar='FILE.json')
    args = parser.parse_args()
    print(table([record for path in args.files for record in read_report(path).values()]))


def table(records):
    """Records of one kind (all tests or all trainings) -> Markdown, a row each"""
    stages = list(records[0]['split_ms'])
    unit = records[0]['rate']['unit']
    heads = ['config', 'size', 'classes', 'way', unit, *(f'{s}, ms' for s in stages), 'host, MiB']
    lines = [f'| {" | ".join(heads)} |', f'|{"---|" * len(heads)}']
    for record in records:
        rate = record['rate']
        cells = [f'`{Path(record["config"]).stem}`', record['size'] or '-']
        cells += [record.get('classes', '-'), record['way']]
        cells.append(f'{rate["median"]:.3g} ({rate["low"]:.3g} to {rate["high"]:.3g})')
        cells += [f'{record["split_ms"][stage]["median"]:.1f}' for stage in stages]
        lines.append(f'| {" | ".join(map(str, cells))} | {record["memory"]["host_mib"]} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    run_command(main)
