"""What the code may not do, whoever writes it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up: a package may import what stands before it, never what stands after.
FLOORS = [
    {'errors', 'utils', 'kernels'},
    {'vocabularies', 'registry', 'structures'},
    {'clip', 'datasets', 'evaluation', 'visualization'},
    {'models', 'engine', 'preparation'},
    {'apis'},
    {'labelling'},
    {'cli'},
]


@pytest.mark.parametrize('command', ['ruff check .', 'ruff format --check .', 'mypy'])
def test_code_checkers(command):
    done = subprocess.run(
        [sys.executable, '-m', *command.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def imported_packages(path):
    """A file of the package -> names below `mmseg` that it imports, however it writes it."""
    own = path.relative_to(ROOT).with_suffix('').parts
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(own[: len(own) - node.level]) + '.' if node.level else ''
            names = [f'{base}{node.module or ""}'.strip('.')]
            if names[0] == 'mmseg':
                names = [f'mmseg.{alias.name}' for alias in node.names]
        yield from (name.split('.')[1] for name in names if name.startswith('mmseg.'))


def test_no_import_runs_upwards():
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    for path in (ROOT / 'mmseg').rglob('*.py'):
        own = path.relative_to(ROOT / 'mmseg').parts[0].removesuffix('.py')
        if own != '__init__':
            for other in imported_packages(path):
                assert floor[other] <= floor[own], f'{path} imports mmseg.{other}'


def test_clip_and_models_keep_to_themselves():
    for package, never in (('clip', 'mmengine'), ('models', r'mmseg\.datasets')):
        for path in (ROOT / 'mmseg' / package).rglob('*.py'):
            assert not re.search(rf'^\s*(from|import) {never}', path.read_text(), re.M), path


def test_no_device_is_named():
    for path in (ROOT / 'mmseg').rglob('*.py'):
        assert not re.search(r'\bcuda\b', path.read_text()), path


@pytest.mark.parametrize(
    'imported, without',
    [
        ('mmseg.errors, mmseg.utils, mmseg.vocabularies', {'torch', 'open_clip', 'scipy', 'tqdm'}),
        ('mmseg.clip, mmseg.kernels', {'open_clip', 'timm', 'torchvision', 'transformers'}),
    ],
)
def test_heavy_packages_are_imported_when_they_are_needed(imported, without):
    code = f'import sys, {imported}; print(*{without} & sys.modules.keys())'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == '', done.stdout + done.stderr


def test_the_method_is_read_in_one_sitting():
    """The reading order of docs/design.md: at most 12 files and 1,500 lines."""
    text = (ROOT / 'docs' / 'design.md').read_text()
    files = re.findall(r'^\d+\. `((?:configs|mmseg)/[^`]+)`', text, re.M)
    lines = [len((ROOT / file).read_text().splitlines()) for file in files]
    assert 'mmseg/models/maskclip.py' in files and 'mmseg/models/maskclip_plus.py' in files
    assert len(files) <= 12 and sum(lines) <= 1500, dict(zip(files, lines))
