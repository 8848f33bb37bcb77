"""Command lines answer `--help` at once: nothing heavy is imported before arguments are parsed."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

import mmseg.apis
import mmseg.apis.command as commands
from mmseg.models import engines

HEAVY = ('torch', 'torchvision', 'transformers', 'open_clip', 'timm', 'mmengine', 'matplotlib')
FOLDERS = ('tools', 'tools/analysis', 'tools/convert_datasets', 'tools/model_converters')
OWN_PARSER = ('check_install.py', 'run_exported.py')  # without argparse
SCRIPTS = [
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).glob('[!_]*.py'))),
    *sorted((ROOT / 'demo').glob('*.py')),
]
GUARD = f"""
import runpy, sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {HEAVY}:
            raise AssertionError(f'{{sys.argv}} imports {{name}}')

sys.meta_path.insert(0, Guard())
for script in sys.argv[1:]:
    sys.argv, sys.path[0] = [script, '--help'], script.rpartition('/')[0]
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        assert not end.code, script
"""


def run(code, *arguments, cwd=ROOT, **variables):
    environment = dict(os.environ, PYTHONPATH=str(ROOT)) | variables
    command = [sys.executable, '-c', code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_help_imports_nothing_heavy(tmp_path):
    (tmp_path / 'maskclip').write_text('from mmseg.cli import main\nmain()\n')
    for command in ('segment', 'test', 'train'):
        code = f'import sys\nsys.argv[1:1] = [{command!r}]\nfrom mmseg.cli import main\nmain()\n'
        (tmp_path / command).write_text(code)
    scripts = [path for path in SCRIPTS if path.name not in OWN_PARSER]
    assert len(scripts) > 20
    done = run(GUARD, *scripts, *sorted(tmp_path.iterdir()), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count('usage: ') == len(scripts) + 3


def test_the_python_interface_is_imported_on_first_use():
    heavy = ('torchvision', 'transformers', 'open_clip', 'timm')
    code = 'import mmseg.apis, sys; print("segment" in dir(mmseg.apis), '
    code += f'[name for name in {heavy} if name in sys.modules])'
    assert run(code).stdout == 'True []\n'
    assert callable(mmseg.apis.segment)
    with pytest.raises(AttributeError, match="no attribute 'cut'"):
        _ = mmseg.apis.cut


def test_precisions_are_those_of_the_engine():
    assert commands.PRECISIONS == engines.PRECISIONS and commands.ENGINES == engines.ENGINES


def test_no_script_edits_the_path_of_imports():
    for path in SCRIPTS:
        assert 'sys.path' not in path.read_text(), path


@pytest.mark.parametrize('tool', ['tools/test.py', 'tools/convert_datasets/voc.py'])
def test_a_tool_with_the_package_of_another_checkout_is_one_line(tool, tmp_path):
    shutil.copytree(ROOT / 'tools', tmp_path / 'tools')
    shutil.copytree(ROOT / 'mmseg' / 'apis', tmp_path / 'mmseg' / 'apis')
    script = tmp_path / tool
    command = [sys.executable, script, '--help']
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    expected = f'imports {ROOT / "mmseg"}; run: pip install -e {tmp_path}\n'
    assert done.stderr.startswith(f'error: {script} belongs') and done.stderr.endswith(expected)
