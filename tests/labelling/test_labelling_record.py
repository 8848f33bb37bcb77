"""labels.json: any machine may add to a folder; another model, word or option may not."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_script
from mmengine.config import Config
from PIL import Image
from safetensors.torch import load_file, save_file

import mmseg.clip
from mmseg.labelling.record import differing, settings_of
from mmseg.models import build as builders

CONFIG = ROOT / 'configs' / 'miniature' / 'maskclip_text_rn.py'  # with a class weight
WEIGHTS = Path(mmseg.clip.__file__).parent / 'miniature' / 'miniature-rn.safetensors'


@pytest.fixture
def label(tmp_path, monkeypatch, capsys):
    """A function that labels a photo in one folder, options -> '' or the line of the refusal."""
    Image.new('RGB', (64, 64), (0, 128, 0)).save(tmp_path / 'photo.png')
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        shutil.copy(WEIGHTS, tmp_path / folder / f'{folder}.safetensors')

    def run(*options, folder='a', photos=None):
        options = ['--out', tmp_path / 'out', *options]
        options += ['--checkpoint', tmp_path / folder / f'{folder}.safetensors']
        code = run_script('pseudo_label', CONFIG, photos or tmp_path / 'photo.png', *options)
        lines = capsys.readouterr().err.strip().splitlines()
        return '' if code == 0 else lines[-1]

    return run


def move_text(monkeypatch, distance):
    """Text rows come out as on hardware whose rounding moves them this far."""

    def moved(*arguments, **options):
        rows = mmseg.clip.text_embeddings(*arguments, **options)
        return rows + distance * torch.ones_like(rows)

    monkeypatch.setattr(builders, 'text_embeddings', moved)


def test_other_hardware_and_places_of_files_may_add(label, monkeypatch, tmp_path):
    assert label() == ''
    text = (tmp_path / 'out' / 'text.safetensors').read_bytes()
    move_text(monkeypatch, 2e-6)
    assert label(folder='b') == ''
    assert (tmp_path / 'out' / 'text.safetensors').read_bytes() == text


OTHERS = {
    'classes': ['--classes', 'sky, moon'],
    'threshold': ['--threshold', '0.5'],
    'flip': ['--flip'],
    'settings.model.class_weight.tau': ['--cfg-options', 'class_weight.tau=0.5'],
    'settings.model.decode_head.pd_thresh': ['--cfg-options', 'model.decode_head.pd_thresh=0.1'],
}


def test_other_options_are_refused(label):
    assert label() == ''
    for key, options in OTHERS.items():
        assert f'holds labels of other {key}' in label(*options)
    assert label() == ''


def test_another_model_is_refused(label, monkeypatch, tmp_path):
    assert label() == ''
    state = load_file(tmp_path / 'b' / 'b.safetensors')
    name = next(key for key in state if key.startswith('visual.') and state[key].ndim > 1)
    state[name].view(-1)[0] += 1e-3
    save_file(state, tmp_path / 'b' / 'b.safetensors')
    assert 'holds labels of other weights_sha256;' in label(folder='b')
    move_text(monkeypatch, 1e-3)
    assert 'holds labels of other text.safetensors;' in label()


def draw(path, *colours):
    """Photos of flat colours, 0.png, 1.png, ... in a new folder -> the folder"""
    path.mkdir()
    for i, colour in enumerate(colours):
        Image.new('RGB', (64, 64), colour).save(path / f'{i}.png')
    return path


def test_labels_are_of_the_photos_that_are_there(label, tmp_path):
    """One name is not one photo: another folder is refused, a changed photo is labelled again."""
    photos, out = draw(tmp_path / 'x', 'green', 'blue'), tmp_path / 'out'
    assert label(photos=photos) == ''
    first = [(out / f'{i}.png').read_bytes() for i in (0, 1)]
    other = draw(tmp_path / 'y', 'red', 'blue')
    found = label(photos=other)
    assert f'{out} holds labels of the photos of {photos}, not of {other};' in found
    assert 'choose another --out' in found
    assert [(out / f'{i}.png').read_bytes() for i in (0, 1)] == first
    shutil.copy(other / '0.png', photos / '0.png')
    written = (out / '1.png').stat().st_mtime_ns
    assert label(photos=photos) == ''
    assert (out / '0.png').read_bytes() != first[0]
    assert (out / '1.png').stat().st_mtime_ns == written, 'done twice'


def test_a_folder_that_has_moved_goes_on(label, tmp_path):
    photos, out = draw(tmp_path / 'x', 'green', 'blue'), tmp_path / 'out'
    assert label(photos=photos) == ''
    (out / '1.png').unlink()
    written = (out / '0.png').stat().st_mtime_ns
    shutil.copytree(photos, tmp_path / 'z')  # with other times of its files
    assert label(photos=tmp_path / 'z') == ''
    assert (out / '1.png').exists() and (out / '0.png').stat().st_mtime_ns == written


def test_files_in_settings_count_by_their_content(tmp_path):
    def settings(name, content):
        (tmp_path / name).write_text(content)
        head = dict(text=dict(file=str(tmp_path / name)))
        return settings_of(Config(dict(model=dict(type='MaskClip', decode_head=head))))

    first = settings('a.npy', '1')
    assert differing(first, settings('b.npy', '1')) == []
    assert differing(first, settings('c.npy', '2')) == ['model.decode_head.text.file']
