"""Commands and code of the documents are those that exist."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mmseg.apis.command_lines import parse_segment
from mmseg.datasets.miniature import MiniatureDataset

DOCUMENTS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def test_site_builds_without_a_network(tmp_path):
    """Strict: an unknown link, anchor or module is an error."""
    pytest.importorskip('mkdocs', reason='needs mkdocs: pip install -e .[docs]')
    pytest.importorskip('mkdocstrings', reason='needs mkdocstrings: pip install -e .[docs]')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '-d', tmp_path]
    offline = dict(http_proxy='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9')
    environment = os.environ | offline | dict(NO_MKDOCS_2_WARNING='1')
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page, content in (
        ('index.html', 'Segment any photo'),
        ('contributing/index.html', 'Add a teacher'),
        ('api/apis/index.html', 'id="mmseg.apis.inference.init_model"'),
        ('api/datasets/index.html', 'id="mmseg.datasets.PhotoDataset"'),
    ):
        assert content in (tmp_path / page).read_text(), page


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_exist(path):
    text = path.read_text()
    for target in re.findall(r'\]\(([^)#:]+?)(?:#[^)]*)?\)', text):
        assert (path.parent / target).exists(), f'{path.name} links to {target}'
    for file in re.findall(r'`((?:mmseg|tests|tools|configs|demo|docs)/[\w/.-]+\.\w+)', text):
        assert (ROOT / file).exists(), f'{path.name} names {file}'
    for script in re.findall(r'(?:python|bash) ((?:tools|demo|configs)/[\w/.]+\.(?:py|sh))', text):
        assert (ROOT / script).is_file(), f'{path.name} calls {script}'


def test_options_of_the_user_guide_exist():
    text = (ROOT / 'docs' / 'user_guide.md').read_text()
    table = re.findall(r'^\| `([^|]+?)`', text.replace('\\|', '/'), re.M)
    options = {o for row in table for o in re.findall(r'--[\w-]+', row)}
    known = parse_segment(['photo'])
    assert options and all(hasattr(known, o[2:].replace('-', '_')) for o in options)


def test_python_of_the_user_guide_runs(tmp_path, monkeypatch):
    text = (ROOT / 'docs' / 'user_guide.md').read_text()
    (code,) = re.findall(r'```python\n(.*?)```', text, re.S)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    scene = MiniatureDataset(scenes=1, world=1).draw('miniature/1/00000.png')
    Image.fromarray(scene.image).save('photo.png')
    exec(compile(code, 'user_guide.md', 'exec'), {})
    assert Path('overlay.png').is_file()


def test_commands_of_the_user_guide_make_its_pictures(tmp_path, monkeypatch):
    text = (ROOT / 'docs' / 'user_guide.md').read_text()
    text = text.partition('in pictures\n')[2].partition('## Web page')[0]
    commands = re.findall(r'^python (.*)$', text.replace('\\\n', ' '), re.M)
    pictures = re.findall(r'\]\(images/guide/(.*?)\)', text)
    assert len(commands) == 10 and len(pictures) == 9
    for folder in ('configs', 'demo', 'mmseg', 'tools'):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_HOME', str(tmp_path))
    for command in commands:
        file, *arguments = shlex.split(command)
        monkeypatch.setattr(sys, 'argv', [file, *arguments])
        runpy.run_path(file, run_name='__main__')
    for name in pictures:
        shown = Image.open(ROOT / 'docs' / 'images' / 'guide' / name).convert('RGB')
        written = Image.open(tmp_path / name).convert('RGB')
        assert written.size == shown.size, name
        difference = np.asarray(written).astype(int) - np.asarray(shown)
        assert np.abs(difference).mean() < 8, name
