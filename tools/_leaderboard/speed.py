"""What the options cost with CLIP's ViT-B/16, by `tools/benchmark.py`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mmseg.errors import UserError
from mmseg.utils import atomic_path, read_json

from .options import SPEEDS

TOOLS = Path(__file__).resolve().parents[1]
CONFIGS = TOOLS.parent / 'configs'


def speeds_of(results):
    """Folder of results -> {option: photos/s}, and a date under 'when'; {} if not measured"""
    path = Path(results) / 'speed.json'
    return read_json(path) if path.is_file() else {}


def measure_speeds(results, *, number=2, repeats=2):
    """Write `speed.json`: the median over the repeats of each option, whole inputs of 520 x 390."""
    found = {}
    for name, (config, options) in SPEEDS.items():
        found[name], machine = _measure(CONFIGS / config, options, number, repeats)
        found['when'] = f'{machine["date"]}, torch {machine["torch"]}'
        print(f'{name}: {found[name]:.2f} photos/s', flush=True)
    with atomic_path(Path(results) / 'speed.json') as temporary:
        temporary.write_text(json.dumps(found, indent=1) + '\n')


def _measure(config, options, number, repeats):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'speed.json')
        command = [sys.executable, TOOLS / 'benchmark.py', config, '--random-weights']
        command += ['--synthetic', '--number', number, '--repeats', repeats, '--out', out]
        command += ['--cfg-options', *options] if options else []
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            raise UserError(f'tools/benchmark.py {config}: {done.stderr.strip()[-200:]}')
        report = json.loads(out.read_text())
    return report['results'][0]['rate']['median'], report['machine']
