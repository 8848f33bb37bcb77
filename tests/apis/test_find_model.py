"""One door for models: a config, a student's file, a folder, an exported file, a name."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file
from test_export import write_onnx

from mmseg.apis import init_model, segment
from mmseg.apis.command import run_command
from mmseg.apis.find_model import find_model
from mmseg.datasets.miniature import LABELS, MiniatureDataset
from mmseg.errors import UserError
from mmseg.models.student_file import KEY

CONFIG = 'maskclip_plus_rn_resnet10'


@pytest.fixture(scope='module')
def scene():
    return MiniatureDataset(scenes=9, world=1).draw('miniature/1/00000.png').image


def test_a_students_file_or_folder_needs_no_config(student_file, scene, tmp_path):
    model = init_model(CONFIG, student_file, device='cpu')
    model.student.save_pretrained(tmp_path / 'folder')
    expected = segment(model, scene)
    for name in (student_file, tmp_path / 'folder'):
        found = segment(init_model(name, device='cpu'), scene)
        assert np.array_equal(found.labels, expected.labels) and found.names == LABELS
        assert found.palette == expected.palette


def test_options_of_a_student_without_its_config(student_file, scene):
    key = 'test_dataloader.dataset.pipeline.0.scale'
    model = init_model(student_file, device='cpu', cfg_options={key: (64, 64)})
    assert model.transforms[0].scale == (64, 64)
    for options, words in (
        ({'model.windoes': None}, "has no key 'windoes'"),
        ({'test_dataloader.batch_size': 2}, 'has no test_dataloader.batch_size to override'),
    ):
        with pytest.raises(UserError, match=words):
            init_model(student_file, device='cpu', cfg_options=options)
    with pytest.raises(UserError, match='is a model by itself; leave out the checkpoint'):
        init_model(student_file, student_file, 'cpu')


def test_an_exported_file_by_the_same_functions(tmp_path):
    """A network whose class is the red of a pixel, see `write_onnx`."""
    write_onnx(tmp_path / 'a.onnx', 3, resize=[dict(fit=[40, 30])], scale=0.01)
    red = np.repeat(np.array([0, 20, 120, 140, 250, 255], np.uint8), 20)
    photo = np.repeat(red[None, :, None], 90, axis=0).repeat(3, axis=2)
    model = init_model(tmp_path / 'a.onnx', device='cpu')
    result = segment(model, photo)
    assert result.scores.shape == (3, 30, 40) and result.names == ('0', '1', '2')
    middles = [10, 30, 50, 70, 90, 110]
    assert result.labels[45, middles].tolist() == [0, 0, 1, 1, 2, 2]
    centres = np.array([0, 127.5, 255])
    weights = np.exp(-0.01 * (120 - centres) ** 2)  # softmax of the scores of the third stripe
    assert result.probability[45, 50] == pytest.approx(weights.max() / weights.sum(), rel=1e-3)
    windows = segment(model, photo, window=16, stride=8)
    assert windows.labels[45, middles].tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UserError, match='a student finds the classes that it was trained for'):
        segment(model, photo, 'dog')
    with pytest.raises(UserError, match='has no config to override'):
        init_model(tmp_path / 'a.onnx', device='cpu', cfg_options={'model.windows': None})
    with pytest.raises(UserError, match='no student with weights'):
        _ = model.student


def test_openvinos_conversion(tmp_path):
    openvino = pytest.importorskip('openvino', reason='needs openvino')
    write_onnx(tmp_path / 'a.onnx', 3, resize=[], scale=0.01)
    openvino.save_model(openvino.convert_model(tmp_path / 'a.onnx'), tmp_path / 'b' / 'model.xml')
    photo = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    found = [segment(init_model(tmp_path / name, device='cpu'), photo) for name in ('a.onnx', 'b')]
    assert (found[0].labels == found[1].labels).mean() > 0.95  # half precision


def test_openvino_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    (tmp_path / 'model.xml').touch()
    with pytest.raises(UserError, match=r"openvino: pip install 'maskclip-plus\[openvino\]'"):
        init_model(tmp_path, device='cpu')


def of_somebody(folder):
    """Files and folders that hold no model of ours."""
    import onnx

    write_onnx(folder / 'other.onnx', 3)  # without how to resize
    model = onnx.load(folder / 'other.onnx')
    del model.metadata_props[:]
    onnx.save(model, folder / 'other.onnx')
    write_onnx(folder / 'wrong.onnx', 3, resize=[], scale=1.0, palette=[[0, 0, 300]] * 3)
    (folder / 'junk.onnx').write_text('junk')
    (folder / 'empty').mkdir()
    (folder / 'empty' / 'a.png').touch()
    (folder / 'half').mkdir()
    (folder / 'half' / 'config.json').write_text('{}')
    (folder / 'bert').mkdir()
    (folder / 'bert' / 'config.json').write_text('{"model_type": "bert"}')
    save_file(dict(a=torch.zeros(1)), folder / 'bert' / 'model.safetensors')
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), folder / 'weights.pth')


@pytest.mark.parametrize(
    'name, words',
    [
        ('junk.onnx', r'junk.onnx cannot be read as a model \('),
        ('other.onnx', r"not written by this version of tools/export.py \(it lacks 'classes'\)"),
        ('wrong.onnx', 'palette must be a list, each item a list.*export it again'),
        ('gone.onnx', 'no such file: gone.onnx'),
        ('runs/gone.pth', 'no such file: runs/gone.pth'),
        ('empty', 'the folder empty holds no model: neither config.json and model.safetensors'),
        ('half', 'the folder half holds no student: it lacks model.safetensors'),
        ('bert', 'bert/config.json describes no student of this project'),
        ('weights.pth', 'weights.pth does not say of what network it is; name its config'),
        ('maskclip_rm', r"maskclip_rm does not exist \(nearest: 'maskclip_rn'\)"),
        ('my/own.py', 'the config my/own.py does not exist'),
        ('empty/a.png', 'the config empty/a.png is no Python file'),
    ],
)
def test_what_holds_no_model_is_one_line(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    of_somebody(tmp_path)
    with pytest.raises(SystemExit):
        run_command(lambda: init_model(name, device='cpu'))
    error = capsys.readouterr().err
    assert re.match(f'error: .*{words}', error) and error.count('\n') == 1


@pytest.mark.parametrize(
    'part, kind',
    [('model', 'MaskClip'), ('backbone', 'os.system'), ('backbone', ['x']), ('step', 'RandomCrop')],
)
def test_a_description_names_no_code_of_others(part, kind, student_file, tmp_path):
    """mmengine would import and call any name."""
    description = dict(find_model(student_file).description)
    target = dict(model=description['model'], step=description['pipeline'][0])
    target |= dict(backbone=description['model']['backbone'])
    target[part]['type'] = kind
    save_file(load_file(student_file), tmp_path / 'a.safetensors', {KEY: json.dumps(description)})
    words = 'describes no student' if part == 'model' else 'names the type .*none of this project'
    with pytest.raises(UserError, match=words):
        init_model(tmp_path / 'a.safetensors', device='cpu')


def test_what_is_here_comes_before_names(student_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model('maskclip_rn').path == ROOT / 'configs' / 'miniature' / 'maskclip_rn.py'
    assert find_model('miniature/maskclip_rn').kind == 'config'  # not a name on the hub
    (tmp_path / 'maskclip_rn.py').touch()
    assert find_model('maskclip_rn.py').path.absolute() == tmp_path / 'maskclip_rn.py'
    assert find_model(student_file).kind == 'student'
    init_model(student_file, device='cpu').student.save_pretrained(tmp_path / 'maskclip_vit')
    assert find_model('maskclip_vit').path.parent == Path('maskclip_vit')
