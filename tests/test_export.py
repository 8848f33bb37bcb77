"""Files that run without this package, with onnxruntime as referee; published checkpoints."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script
from PIL import Image

from mmseg.apis import init_model, segment
from mmseg.apis.inference import Words
from mmseg.apis.publish import read_metadata
from mmseg.datasets.miniature import LABELS, MiniatureDataset
from mmseg.engine import load_config
from mmseg.registry import MODELS

onnxruntime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
CONFIGS = ROOT / 'configs' / 'miniature'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A config's name -> a checkpoint of an untrained student."""
    folder = tmp_path_factory.mktemp('students')

    def make(name):
        torch.manual_seed(0)
        path = folder / f'{name}.pth'
        model = MODELS.build(load_config(CONFIGS / f'{name}.py').model)
        torch.save(dict(state_dict=model.state_dict()), path)
        return path

    return make


@pytest.mark.parametrize(
    'name',
    ['maskclip_plus_rn_segformer_b0', 'maskclip_plus_rn_deeplabv2', 'maskclip_vit'],
)
def test_onnx_at_sizes_that_it_was_not_made_with(name, checkpoint, tmp_path):
    arguments = [checkpoint(name)] if 'plus' in name else []
    path = tmp_path / 'a.onnx'
    assert run_script('export', CONFIGS / f'{name}.py', *arguments, '--out', path) == 0
    model = init_model(CONFIGS / f'{name}.py', *arguments, device='cpu')
    network = model.network(Words(model.vocabulary))
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    assert json.loads(session.get_modelmeta().custom_metadata_map['classes']) == list(LABELS)
    for size in ((64, 64), (72, 200)):
        photo = torch.rand(1, 3, 4, 5, generator=torch.manual_seed(1)) * 255
        photo = torch.nn.functional.interpolate(photo, size, mode='bilinear')
        found = session.run(None, {'image': photo.numpy()})[0][0].argmax(axis=0)
        scores = network.scores(photo)[0].detach()
        expected = network.labels(scores, size, size).numpy()
        assert found.shape == size and (found == expected).mean() >= 0.999


def test_torch_export(tmp_path):
    path = tmp_path / 'a.pt2'
    options = ['--format', 'torch-export', '--out', path]
    assert run_script('export', CONFIGS / 'maskclip_vit.py', *options) == 0
    module = torch.export.load(path).module()
    assert module(torch.zeros(3, 3, 80, 72)).shape == (3, len(LABELS), 80, 72)


def test_the_example_runs_a_file_without_this_package(tmp_path):
    assert run_script('export', CONFIGS / 'maskclip_rn.py', '--out', tmp_path / 'a.onnx') == 0
    scene = MiniatureDataset(scenes=9, world=1).draw('miniature/1/00000.png')
    Image.fromarray(scene.image).save(tmp_path / 'a.png')
    example = ROOT / 'demo' / 'run_exported.py'
    assert 'mmseg' not in example.read_text() and 'torch' not in example.read_text()
    command = [sys.executable, example, 'a.onnx', 'a.png', 'labels.png', '128']
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = np.asarray(Image.open(tmp_path / 'labels.png'))
    model = init_model(CONFIGS / 'maskclip_rn.py', device='cpu')
    assert (found == segment(model, scene.image).labels).mean() > 0.95
    assert 'moon' in ended.stdout


def test_publish(checkpoint, tmp_path, capsys):
    name = 'maskclip_plus_rn_segformer_b0'
    source, out = checkpoint(name), tmp_path / 'student.safetensors'
    (tmp_path / 'eval.json').write_text(json.dumps(dict(metric=dict(mIoU=0.36))))
    arguments = [CONFIGS / f'{name}.py', source, out, '--metrics', tmp_path / 'eval.json']
    assert run_script('publish_model', *arguments) == 0
    assert 'sha256' in capsys.readouterr().out
    known = read_metadata(out)
    assert known['vocabulary']['labels'] == list(LABELS) and known['metrics'] == {'mIoU': 0.36}
    assert "type='MaskClipPlus'" in known['config']
    image = MiniatureDataset(scenes=9, world=1).draw('miniature/1/00000.png').image
    labels = [
        segment(init_model(CONFIGS / f'{name}.py', path, 'cpu'), image).labels
        for path in (source, out)
    ]
    assert np.array_equal(*labels)


@pytest.mark.parametrize(
    'tool, arguments, words',
    [
        ('export', ['maskclip_rn.py', '--out', 'a.pth'], 'cannot be written as onnx'),
        ('export', ['maskclip_plus_rn_deeplabv2.py', '--out', 'a.onnx'], 'name its checkpoint'),
        ('export', ['maskclip_text_rn.py', '--out', 'a.onnx'], 'export a config without one'),
        ('publish_model', ['maskclip_rn.py', 'a.pth', 'a.safetensors'], 'is no student'),
        ('publish_model', ['maskclip_plus_rn_deeplabv2.py', 'a.pth', 'a.bin'], 'does not end in'),
        (
            'publish_model',
            ['maskclip_plus_rn_deeplabv2.py', 'no.pth', 'a.safetensors'],
            'no checkpoint',
        ),
    ],
)
def test_mistakes_are_one_line(tool, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(tool, CONFIGS / arguments[0], *arguments[1:]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ') and words in last
    assert not list(tmp_path.iterdir())
