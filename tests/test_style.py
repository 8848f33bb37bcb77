"""What the code may not do, whoever writes it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# From the ground up: a package may import what stands before it, never what stands after.
FLOORS = [
    {'errors', 'utils'},
    {'vocabularies', 'registry', 'structures'},
    {'clip', 'datasets', 'evaluation', 'visualization'},
    {'models', 'engine'},
    {'apis'},
]


def test_ruff():
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', 'check', '.'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_import_runs_upwards():
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    for path in (ROOT / 'mmseg').rglob('*.py'):
        own = path.relative_to(ROOT / 'mmseg').parts[0].removesuffix('.py')
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmseg.'):
                other = node.module.split('.')[1]
                assert floor[other] <= floor[own], f'{path} imports {node.module}'


def test_clip_and_models_keep_to_themselves():
    for package, never in (('clip', 'mmengine'), ('models', r'mmseg\.datasets')):
        for path in (ROOT / 'mmseg' / package).rglob('*.py'):
            assert not re.search(rf'^\s*(from|import) {never}', path.read_text(), re.M), path


def test_no_device_is_named():
    for path in (ROOT / 'mmseg').rglob('*.py'):
        assert 'cuda' not in path.read_text(), path
