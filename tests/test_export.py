"""Files that run without this package, with onnxruntime as referee; published checkpoints."""

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, load_tool, run_script
from PIL import Image
from safetensors import safe_open

from mmseg.apis import init_model, segment
from mmseg.apis.export import SIZES, Exported, _agreement, export
from mmseg.apis.inference import Words
from mmseg.datasets.miniature import LABELS, MiniatureDataset
from mmseg.engine import load_config
from mmseg.errors import UserError
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
    for size in ((64, 64), (72, 200), (75, 101)):
        photo = torch.rand(1, 3, 4, 5, generator=torch.manual_seed(1)) * 255
        photo = torch.nn.functional.interpolate(photo, size, mode='bilinear')
        found = session.run(None, {'image': photo.numpy()})[0][0].argmax(axis=0)
        scores = network.scores(photo)[0].detach()
        expected = network.labels(scores, size, size).numpy()
        assert found.shape == size and (found == expected).mean() >= 0.999


@pytest.mark.parametrize(
    'options', [{'model.resize_twice': True}, {'model.scoring': dict(synonyms='max')}]
)
def test_a_file_labels_as_the_network_at_odd_sizes(options, tmp_path):
    options['vocabulary'] = ['moon|star', 'sky|water', 'grass']
    model = init_model(CONFIGS / 'maskclip_vit.py', device='cpu', cfg_options=options)
    network, size, path = model.network(Words(model.vocabulary)), (75, 101), tmp_path / 'a.onnx'
    assert export(network, model.vocabulary, path, kind='onnx') >= 0.999
    photo = torch.nn.functional.interpolate(
        torch.rand(1, 3, 4, 5, generator=torch.manual_seed(1)) * 255, size, mode='bilinear'
    )
    (maps,) = network.maps(list(photo))
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    found = session.run(None, {'image': photo.numpy()})[0][0]
    expected = network.labels(maps, size, photo[0]).numpy()
    assert found.shape[0] == 3 and (found.argmax(axis=0) == expected).mean() >= 0.999


@pytest.mark.parametrize(
    'options',
    [
        {'model.windows': dict(size=64, stride=32)},
        {'protocol.windows': dict(size=64, stride=32)},
        {'model.post': dict(type='PAMR'), 'model.scoring.area_thd': 0.1},
        {'model.scoring': dict(prob_thd=0.1)},
    ],
)
def test_what_a_file_cannot_have_is_refused_with_the_cure(options):
    options['vocabulary'] = ['moon', 'background: sky | sand']
    config = load_config(CONFIGS / 'maskclip_vit.py', options)
    model = init_model(config, device='cpu')
    with pytest.raises(UserError, match='an exported file cannot have model') as told:
        Exported(model.network(Words(model.vocabulary)))
    assert '\n' not in str(told.value)
    cure = dict(option.split('=') for option in str(told.value).split('--cfg-options ')[1].split())
    options |= {key: ast.literal_eval(value) for key, value in cure.items()}
    model = init_model(CONFIGS / 'maskclip_vit.py', device='cpu', cfg_options=options)
    Exported(model.network(Words(model.vocabulary)))


def test_the_check_notices_a_file_of_another_network(tmp_path, monkeypatch):
    model = init_model(CONFIGS / 'maskclip_vit.py', device='cpu')
    network = model.network(Words(model.vocabulary))
    monkeypatch.setattr(network, 'resize_twice', True)
    module = Exported(network)
    monkeypatch.setattr(network, 'resize_twice', False)

    def run(image):
        with torch.no_grad():
            return module(image).numpy()

    assert _agreement(network, run, SIZES[0]) > 0.999 > _agreement(network, run, SIZES[1])


@pytest.mark.parametrize(
    'files, out, expected',
    [
        (['a.onnx'], None, (None, 'a.onnx')),
        ([], 'a.onnx', (None, 'a.onnx')),
        (['a.pth', 'a.onnx'], None, ('a.pth', 'a.onnx')),
        (['a.pth'], 'a.onnx', ('a.pth', 'a.onnx')),
    ],
)
def test_the_file_to_write_stands_last_or_behind_out(files, out, expected):
    assert load_tool('export').checkpoint_and_out(files, out) == expected


def test_torch_export(tmp_path):
    path = tmp_path / 'a.pt2'
    options = ['--format', 'torch-export', path]
    assert run_script('export', CONFIGS / 'maskclip_vit.py', *options) == 0
    module = torch.export.load(path).module()
    for size in ((80, 72), (75, 101)):
        assert module(torch.zeros(3, 3, *size)).shape == (3, len(LABELS), *size)


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
    with safe_open(out, 'pt') as file:
        known = file.metadata()
    assert json.loads(known['vocabulary'])['labels'] == list(LABELS)
    assert json.loads(known['metrics']) == {'mIoU': 0.36}
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
        ('export', ['maskclip_rn.py', '--format', 'onnx'], 'name one file to write'),
        ('export', ['maskclip_rn.py', 'a.pth', 'b.onnx', '--out', 'a.onnx'], 'name one file'),
        ('export', ['maskclip_plus_rn_deeplabv2.py', '--out', 'a.onnx'], 'name its checkpoint'),
        ('export', ['maskclip_text_rn.py', '--out', 'a.onnx'], 'export a config without one'),
        ('publish_model', ['maskclip_rn.py', 'a.pth', 'a.safetensors'], 'is no student'),
        ('publish_model', ['maskclip_plus_rn_deeplabv2.py', 'a.pth', 'a.bin'], 'does not end in'),
        (
            'publish_model',
            ['maskclip_plus_rn_deeplabv2.py', 'no.pth', 'a.safetensors'],
            'no weights file',
        ),
    ],
)
def test_mistakes_are_one_line(tool, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_script(tool, CONFIGS / arguments[0], *arguments[1:]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ') and words in last
    assert not list(tmp_path.iterdir())
