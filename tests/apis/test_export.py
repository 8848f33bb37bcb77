"""Files that run without this package, with onnxruntime as referee; published checkpoints."""

import ast
import importlib.util
import json
import subprocess
import sys
from shutil import copy

import numpy as np
import pytest
import torch
from conftest import ROOT, load_tool, run_script
from PIL import Image
from safetensors import safe_open

import mmseg.apis.export as exporting
from mmseg.apis import init_model, segment
from mmseg.apis.export import SIZES, SUFFIXES, Exported, _agreement, export, resizing
from mmseg.apis.words import Words
from mmseg.datasets import Resize, ResizeShortSide
from mmseg.datasets.miniature import LABELS, MiniatureDataset
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.models.backbones import mit
from mmseg.registry import MODELS
from mmseg.vocabularies import load_vocabulary

onnxruntime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
CONFIGS = ROOT / 'configs' / 'miniature'


@pytest.fixture(scope='module', autouse=True)
def _shallow():
    """A SegFormer of one block a stage: an export takes its time by the number of blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mit.SIZES, 'b0', (mit.SIZES['b0'][0], (1, 1, 1, 1)))
        yield


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


def photos_of_other_sizes():
    for size in ((64, 64), (72, 200), (75, 101)):
        photo = torch.rand(1, 3, 4, 5, generator=torch.manual_seed(1)) * 255
        yield size, torch.nn.functional.interpolate(photo, size, mode='bilinear')


@pytest.mark.parametrize('name', ['maskclip_plus_rn_segformer_b0', 'maskclip_plus_rn_deeplabv2'])
def test_onnx_at_sizes_that_it_was_not_made_with(name, checkpoint, tmp_path):
    path = tmp_path / 'a.onnx'
    assert run_script('export', CONFIGS / f'{name}.py', checkpoint(name), '--out', path) == 0
    model = init_model(CONFIGS / f'{name}.py', checkpoint(name), device='cpu')
    network = model.network(Words(model.vocabulary))
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    assert json.loads(session.get_modelmeta().custom_metadata_map['classes']) == list(LABELS)
    for size, photo in photos_of_other_sizes():
        found = session.run(None, {'image': photo.numpy()})[0][0].argmax(axis=0)
        scores = network.scores(photo)[0].detach()
        expected = network.labels(scores, size, photo[0]).numpy()
        assert found.shape == size and (found == expected).mean() >= 0.999


def test_a_file_labels_as_the_network_at_odd_sizes(tmp_path):
    options = {'model.resize_twice': True, 'model.scoring': dict(synonyms='max')}
    options['vocabulary'] = ['moon|star', 'sky|water', 'grass']
    model = init_model(CONFIGS / 'maskclip_vit.py', device='cpu', cfg_options=options)
    network, path = model.network(Words(model.vocabulary)), tmp_path / 'a.onnx'
    assert export(network, model.vocabulary, path, file_format='onnx') >= 0.999
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for size, photo in photos_of_other_sizes():
        (maps,) = network.query_logits(list(photo))
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
            return [module(torch.from_numpy(image)).numpy()]

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


def test_openvinos_format(tmp_path, monkeypatch):
    """Its two files are there together or not at all, and label as the ONNX file does."""
    pytest.importorskip('openvino', reason='needs openvino')
    write_onnx(tmp_path / 'a.onnx', 3, resize=[], scale=0.01)
    monkeypatch.setattr(
        exporting, '_write_onnx', lambda _, path, __: copy(tmp_path / 'a.onnx', path)
    )
    model = init_model(CONFIGS / 'maskclip_vit.py', device='cpu')
    out = tmp_path / 'out' / 'a.xml'
    arguments = [model.network(Words(model.vocabulary)), model.vocabulary, out]
    with pytest.raises(UserError, match='the file agrees with the network on'):
        export(*arguments, file_format='openvino')
    assert not list(out.parent.iterdir())
    monkeypatch.setattr(exporting, '_agreement', lambda *_: 1.0)
    assert export(*arguments, file_format='openvino') == 1.0
    assert sorted(path.name for path in out.parent.iterdir()) == ['a.bin', 'a.xml']
    photo = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    found = [segment(init_model(path, device='cpu'), photo) for path in (out, tmp_path / 'a.onnx')]
    assert np.array_equal(found[0].labels, found[1].labels)


@pytest.mark.parametrize('name', ['openvino', 'tensorrt'])
def test_formats_are_optional(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / f'a{SUFFIXES[name]}'
    assert run_script('export', CONFIGS / 'maskclip_vit.py', '--format', name, '--out', path) == 1
    expected = f"error: the format {name} needs {name}: pip install 'maskclip-plus[{name}]'\n"
    assert capsys.readouterr().err.endswith(expected)


def test_torch_export(tmp_path):
    path = tmp_path / 'a.pt2'
    options = ['--format', 'torch-export', path]
    assert run_script('export', CONFIGS / 'maskclip_vit.py', *options) == 0
    module = torch.export.load(path).module()
    for size in ((80, 72), (75, 101)):
        assert module(torch.zeros(3, 3, *size)).shape == (3, len(LABELS), *size)


@pytest.fixture(scope='module')
def example():
    """demo/run_exported.py as a module."""
    path = ROOT / 'demo' / 'run_exported.py'
    assert (
        'mmseg.' not in path.read_text().replace('`mmseg.', '') and 'torch' not in path.read_text()
    )
    spec = importlib.util.spec_from_file_location('run_exported', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_onnx(path, classes, /, **known):
    """A network whose class is the red of a pixel, of 0 to 255 spread over the classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    centres = np.linspace(0, 255, classes, dtype=np.float32)
    weight = np.zeros((classes, 3, 1, 1), np.float32)
    weight[:, 0, 0, 0] = 2 * centres  # -(x - c)^2 without the x^2 that all classes share
    values = [numpy_helper.from_array(weight, 'w'), numpy_helper.from_array(-(centres**2), 'b')]
    graph = helper.make_graph(
        [helper.make_node('Conv', ['image', 'w', 'b'], ['scores'])],
        'red',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['N', 3, 'H', 'W'])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['N', classes, 'H', 'W'])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    words = dict(classes=[str(i) for i in range(classes)], palette=[(1, 2, 3)] * classes) | known
    helper.set_model_props(model, {key: json.dumps(value) for key, value in words.items()})
    onnx.save(model, path)


def test_the_example_labels_as_the_network(example, tmp_path, capsys):
    """Of a photo that is resized by the steps in the file; no size is passed."""
    model = init_model(CONFIGS / 'maskclip_rn.py', device='cpu')
    network = model.network(Words(model.vocabulary))
    options = dict(file_format='onnx', transforms=model.transforms)
    export(network, model.vocabulary, tmp_path / 'a.onnx', **options)
    scene = Image.fromarray(MiniatureDataset(scenes=9, world=1).draw('miniature/1/00000.png').image)
    scene.resize((384, 384)).save(tmp_path / 'a.png')
    example.main([str(tmp_path / name) for name in ('a.onnx', 'a.png', 'labels.png')])
    found = np.asarray(Image.open(tmp_path / 'labels.png'))
    expected = segment(model, tmp_path / 'a.png')
    assert (found == expected.labels).mean() > 0.98
    ours = segment(init_model(tmp_path / 'a.onnx', device='cpu'), tmp_path / 'a.png')
    assert (ours.labels == expected.labels).mean() > 0.99 and ours.palette == expected.palette
    assert np.abs(ours.probability - expected.probability).mean() < 0.01
    assert 'moon' in capsys.readouterr().out


@pytest.mark.parametrize(
    'step', [Resize(scale=(90, 50)), ResizeShortSide(33), ResizeShortSide(40, multiple=16)]
)
def test_the_example_resizes_as_the_pipeline(step, example):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    photo = Image.fromarray(coarse).resize((131, 77))
    expected = step(dict(img=np.asarray(photo)))['img'].astype(int)
    found = np.asarray(example.resized(photo, json.loads(json.dumps(resizing([step]))))).astype(int)
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 2


@pytest.mark.parametrize('classes, mode', [(256, 'P'), (257, 'I;16'), (300, 'I;16')])
def test_the_example_with_many_classes(classes, mode, example, tmp_path):
    write_onnx(tmp_path / 'a.onnx', classes, resize=[])
    red = np.linspace(0, 255, classes).round().astype(np.uint8)  # one pixel of each class
    Image.fromarray(np.stack([red, red, red], axis=1)[None]).save(tmp_path / 'a.png')
    example.main([str(tmp_path / name) for name in ('a.onnx', 'a.png', 'labels.png')])
    image = Image.open(tmp_path / 'labels.png')
    expected = np.abs(red[:, None] - np.linspace(0, 255, classes)).argmin(axis=1)
    assert image.mode == mode and np.asarray(image)[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    'arguments, words',
    [
        ('a.onnx', 'usage: run_exported.py MODEL.onnx PHOTO OUT.png'),
        ('a.onnx a.png b.png 64 64', 'usage: run_exported.py'),
        ('a.onnx a.png b.jpg', 'b.jpg is to be a .png'),
        ('a.onnx a.png a.png', 'a.png is to be a .png other than the photo'),
        ('a.onnx a.png b.png 0', 'LONGEST_SIDE is a number of pixels up to 8192, not 0'),
        ('a.onnx a.png b.png -5', 'LONGEST_SIDE is a number of pixels up to 8192, not -5'),
        ('a.onnx a.png b.png x', 'LONGEST_SIDE is a number of pixels up to 8192, not x'),
        ('none.onnx a.png b.png', 'no such model: none.onnx'),
        ('folder a.png b.png', 'no such model: folder'),
        ('a.png a.png b.png', 'a.png cannot be read as an ONNX model'),
        (
            'bare.onnx a.png b.png',
            "bare.onnx was not written by tools/export.py: KeyError('classes')",
        ),
        ('odd.onnx a.png b.png', 'the model gives scores (1, 3, 6, 8) that are not those of its'),
        ('huge.onnx a.png b.png', "a.png cannot be resized to [{'fit': [2000000000, 1999999999"),
        ('a.onnx none.jpg b.png', 'no such photo: none.jpg'),
        ('a.onnx a.onnx b.png', 'a.onnx cannot be read as a photo'),
        ('a.onnx eps.jpg b.png', 'eps.jpg cannot be read as a photo'),
        ('a.onnx a.png none/b.png', 'cannot write none/b.png: No such file'),
        ('a.onnx a.png folder/c.png', 'cannot write folder/c.png: Is a directory'),
    ],
)
def test_mistakes_with_the_example(arguments, words, example, tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder' / 'c.png').mkdir(parents=True)
    Image.new('RGB', (8, 6)).save('a.png')
    Image.new('RGB', (8, 6)).save('eps.jpg', 'EPS')
    write_onnx('a.onnx', 3, resize=[])
    write_onnx('huge.onnx', 3, resize=[dict(fit=[2 * 10**9, 2 * 10**9 - 1])])
    for name, changed in (
        ('bare', {}),
        ('odd', dict(classes='["a"]', palette='[[1, 2, 3]]', resize='[]')),
    ):
        model = onnx.load('a.onnx')
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, changed)
        onnx.save(model, f'{name}.onnx')
    with pytest.raises(example.Mistake) as told:
        example.main(arguments.split())
    assert words in str(told.value) and '\n' not in str(told.value)


@pytest.mark.parametrize(
    'known',
    [
        *(dict(resize=steps) for steps in (5, [3], ['fit'], [{'fit': []}], [{'fit': ['a', 2]}])),
        *(dict(resize=[step]) for step in ({'fit': [0, 9]}, {'fit': [1e99, 9]}, {}, {'fit': 3})),
        *(dict(resize=[dict(short_side=4, **more)]) for more in ({}, dict(multiple=0))),
        *(dict(classes=names) for names in (3, None, 'abc', [1, 2, 3])),
        *(dict(palette=colours) for colours in (5, None, [], ['red'] * 3, [[0, 0]] * 3)),
        *(dict(palette=[[0, 0, x]] * 3) for x in (300, -1, 0.5, 'a')),
    ],
    ids=str,
)
def test_the_example_refuses_what_no_export_wrote(known, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (8, 6)).save('a.png')
    write_onnx('a.onnx', 3, **(dict(resize=[]) | known))
    with pytest.raises(example.Mistake, match='a.onnx was not written by tools/export.py'):
        example.main(['a.onnx', 'a.png', 'b.png'])


def test_the_example_as_a_script(tmp_path):
    """One line of an error; standard output on a full disk."""
    command = [sys.executable, ROOT / 'demo' / 'run_exported.py', 'a.onnx', 'a.png', 'b.png']
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, 'error: no such model: a.onnx\n')
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.png')
    write_onnx(tmp_path / 'a.onnx', 3, resize=[])
    with open('/dev/full', 'w') as full:
        ended = subprocess.run(
            command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr == 'error: cannot write the shares: No space left on device\n'


def test_publish(checkpoint, tmp_path, capsys):
    name = 'maskclip_plus_rn_segformer_b0'
    source, out = checkpoint(name), tmp_path / 'student.safetensors'
    (tmp_path / 'eval.json').write_text(json.dumps(dict(metric=dict(mIoU=0.36))))
    arguments = [CONFIGS / f'{name}.py', source, out, '--metrics', tmp_path / 'eval.json']
    assert run_script('publish_model', *arguments) == 0
    assert 'sha256' in capsys.readouterr().out
    with safe_open(out, 'pt') as file:
        known = file.metadata()
    described = json.loads(known['student'])
    assert load_vocabulary(described['model']['vocabulary']).labels == tuple(LABELS)
    assert described['metrics'] == {'mIoU': 0.36}
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
