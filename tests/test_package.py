"""The wheel: what it holds, and what it does in an environment of its own, outside any checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import setuptools
import yaml
from conftest import ROOT

SOURCES = (
    *('mmseg', 'configs', 'tools', 'demo', 'model-index.yml', 'setup.py', 'pyproject.toml'),
    *('README.md', 'LICENSE', 'NOTICE'),
)
BUILD = (
    "import sys; from setuptools import build_meta as b; getattr(b, 'build_' + sys.argv[1])('.')"
)
USE = """
import sys, mmseg
from mmseg.cli import dispatch
from mmseg.engine import load_config
from mmseg.errors import UserError
scene, own, name = sys.argv[1:]
dispatch(['segment', scene, '--classes', 'heart, ring, grass, sand', '--out', 'segmented'])
print(mmseg.__file__, load_config(own).teacher, sep='\\n')
for argument in (name, name.replace('context', 'contxt')):
    try:
        dispatch(['test', argument])
    except UserError as error:
        print(error)
"""


def run(*command, cwd):
    """-> the lines that a command prints"""
    command = [str(part) for part in command]
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def build(kind, folder):
    """'sdist' or 'wheel' of a folder of sources -> its path"""
    run(sys.executable, '-c', BUILD, kind, cwd=folder)
    return next(folder.glob('*.tar.gz' if kind == 'sdist' else '*.whl'))


def files_of(wheel):
    """-> {name: checksum}"""
    with zipfile.ZipFile(wheel) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


@pytest.mark.skipif(int(setuptools.__version__.split('.')[0]) < 77, reason='needs setuptools 77')
def test_a_wheel_works_outside_any_checkout(tmp_path):
    checkout, away = tmp_path / 'checkout', tmp_path / 'away'
    for path in (checkout, away):
        path.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, checkout / name)
    with tarfile.open(build('sdist', checkout)) as archive:
        archive.extractall(tmp_path, filter='data')
    wheel = build('wheel', checkout)
    files = files_of(wheel)
    assert files == files_of(
        build('wheel', tmp_path / wheel.name.removesuffix('-py3-none-any.whl'))
    )
    leaves = {f'mmseg/.mim/{path.relative_to(ROOT)}' for path in ROOT.glob('configs/**/*.py')}
    assert leaves <= files.keys() and 'mmseg/clip/miniature/miniature-rn.safetensors' in files
    assert not any('__pycache__' in name or name.startswith(('tools', 'configs')) for name in files)

    run(sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'env', cwd=away)
    python = tmp_path / 'env' / 'bin' / 'python'
    (site,) = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=away)
    others = [path for path in sys.path if path.endswith('-packages')]  # PyTorch and the like
    Path(site, 'others.pth').write_text('\n'.join(others))
    pip = [sys.executable, '-m', 'pip', '--python', python, 'install', '-q', '--no-deps']
    run(*pip, '--ignore-installed', wheel, cwd=away)
    maskclip = python.with_name('maskclip')
    assert run(maskclip, 'miniature', '--help', cwd=away)[0].startswith('usage: miniature.py')
    commands = [line.split()[0] for line in run(maskclip, cwd=away) if line.startswith('  ')]
    scripts = {path.stem for path in ROOT.glob('tools/[!_]*.py')} - {'check_install'}
    assert set(commands) == scripts | {'segment', 'app'}

    student = 'maskclip_plus_vit16_segformer_b5_480x480_8k_pascal_context_59'
    folder = Path(site, 'mmseg', '.mim', 'configs')
    (away / 'own.py').write_text(f"_base_ = '{folder}/maskclip_plus/anno_free/{student}.py'")
    arguments = [ROOT / 'demo' / 'scenes' / 'heart.png', 'own.py']
    arguments.append('maskclip_vit16_520x520_pascal_context_59')
    lines = run(python, '-c', USE, *arguments, cwd=away)
    assert lines[0] == '1 of 1 photos segmented; written to segmented'
    assert Path(lines[1]).is_relative_to(site) and Path(lines[2]).is_relative_to(folder)
    assert lines[3].startswith('the split list data/VOCdevkit/VOC2010/')  # what a test needs first
    assert f"(nearest: '{arguments[-1]}'); the configs of this project are below" in lines[4]
    assert (away / 'segmented' / 'heart_overlay.png').is_file()


def test_the_index_has_every_config():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    leaves = [p for p in ROOT.glob('configs/**/*.py') if '_base_' not in p.relative_to(ROOT).parts]
    assert {model['Config'] for model in index['Models']} == {
        path.relative_to(ROOT).as_posix() for path in leaves
    }, 'run: python tools/analysis/model_zoo.py --index > model-index.yml'
    figures = {m['Name']: m['Results'][0]['Metrics'] for m in index['Models'] if 'Results' in m}
    assert figures['maskclip_vit16_520x520_pascal_context_59'] == dict(mIoU=21.68)
