"""Records to text and JSON, and two JSONs to ratios."""

import json
import os
import platform
import time
from pathlib import Path

import torch

from mmseg.errors import UserError
from mmseg.utils import atomic_path

SAME = ('what', 'config', 'way', 'size', 'batch', 'classes')


def machine():
    """-> {'cores': ..., 'cpu': ..., 'accelerator': ..., 'torch': ..., 'date': ...}"""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else 0
    return dict(
        platform=f'{platform.system()} {platform.machine()}',
        cpu=cpu_model(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        accelerator=torch.get_device_module(accelerator).get_device_name() if accelerator else None,
        torch=torch.__version__,
        date=time.strftime('%Y-%m-%d'),
    )


def cpu_model(info='/proc/cpuinfo'):
    """-> the CPU's name, as far as the system tells"""
    try:
        lines = Path(info).read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


def write_report(records, path):
    """Records -> a JSON file with the machine's description"""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(dict(machine=machine(), results=records), indent=1))


def read_report(path):
    """A JSON file of `write_report` -> {key: record}

    Raises:
        UserError: no such file, or not one of these.
    """
    try:
        records = json.loads(Path(path).read_text(encoding='utf-8'))['results']
        return {tuple(str(r.get(k)) for k in SAME): r for r in records if r['rate']['median']}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is no JSON file of tools/benchmark.py --out') from error


def compare(first, second):
    """Two reports' paths -> text: how many times as fast the second is, record by record

    Raises:
        UserError: they have no record in common.
    """
    a, b = read_report(first), read_report(second)
    lines = []
    for key in (key for key in a if key in b):
        lines.append(f'{title(a[key])}\n{ratios(a[key], b[key])}')
    if not lines:
        raise UserError(f'{first} and {second} measure no config in common')
    return f'{second} against {first}; above 1 the second is better\n' + '\n'.join(lines)


def ratios(a, b):
    """Two records -> text: rate, stages and memory, each so that above 1 the second is better"""
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


def title(record):
    """A record -> 'configs/... (test, 520, batch 4)'"""
    size = f', {record["size"]}' if record['size'] else ''
    return f'{record["config"]} ({record["what"]}, {record["way"]}{size}, batch {record["batch"]})'


def as_text(record):
    """A record -> a few lines"""
    rate, memory = record['rate'], record['memory']
    split = '   '.join(f'{name} {x["median"]:.1f}' for name, x in record['split_ms'].items())
    lines = [
        f'{title(record)} on {record["device"]}: {rate["median"]:.3g} {rate["unit"]} '
        f'({rate["low"]:.3g} to {rate["high"]:.3g})',
        f'    ms each: {split}',
    ]
    if 'beside_network_ms' in record:
        beside = record['beside_network_ms']['median']
        lines[1] += f'   all but the network {beside:.1f}'
    lines.append(
        '    at most held: '
        + ', '.join(f'{k.removesuffix("_mib")} {v} MiB' for k, v in memory.items() if v)
    )
    if 'labels_as_baseline' in record:
        lines.append(f'    labels as the baseline: {100 * record["labels_as_baseline"]:.3f} %')
    return '\n'.join(lines)
