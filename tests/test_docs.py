"""Commands and code of the documents are those that exist."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from mmseg.apis.segment_command import parse_arguments
from mmseg.datasets.miniature import MiniatureDataset

DOCUMENTS = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_exist(path):
    text = path.read_text()
    for target in re.findall(r'\]\(([^)#:]+?)(?:#[^)]*)?\)', text):
        assert (path.parent / target).exists(), f'{path.name} links to {target}'
    for script in re.findall(r'(?:python|bash) ((?:tools|demo|configs)/[\w/.]+\.(?:py|sh))', text):
        assert (ROOT / script).is_file(), f'{path.name} calls {script}'


def test_options_of_the_user_guide_exist():
    text = (ROOT / 'docs' / 'user_guide.md').read_text()
    table = re.findall(r'^\| `([^|]+?)`', text.replace('\\|', '/'), re.M)
    options = {o for row in table for o in re.findall(r'--[\w-]+', row)}
    known = parse_arguments(['photo'])
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
