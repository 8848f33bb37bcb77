"""Engines label as PyTorch does, export once, and say in one line what they cannot do."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_export import write_onnx as write_red
from test_tools import result_of, run_test

from mmseg.apis import init_model, segment
from mmseg.datasets.miniature import MiniatureDataset
from mmseg.engine import SegTestLoop
from mmseg.errors import UserError
from mmseg.models import engines
from mmseg.models.engines import CALIBRATED, COMPARED, Engine, Part
from mmseg.utils import cache_folder

pytest.importorskip('onnxruntime', reason='needs onnxruntime')
onnx = pytest.importorskip('onnx', reason='needs onnx')
ALL = ('onnxruntime', 'openvino')


@pytest.fixture(scope='module')
def weights(tiny_clip, tmp_path_factory):
    """A file of random weights, the same for all tests: so they share an export."""
    path = tmp_path_factory.mktemp('weights') / 'vit.pth'
    torch.save(tiny_clip('vit').model.state_dict(), path)
    return path


@pytest.fixture
def config(tiny_config, weights):
    tiny_config.write_text(tiny_config.read_text().replace("'random'", f"'{weights}'"))
    return tiny_config


@pytest.fixture
def files(photos):
    return sorted((photos / 'JPEGImages').iterdir())


def load(config, **options):
    return init_model(config, device='cpu', **options)


@pytest.mark.parametrize('engine', ALL)
def test_labels_are_those_of_pytorch(engine, config, files, capsys):
    """Of a ViT: photos of two sizes, a class weight, windows; each function is exported once."""
    pytest.importorskip(engine, reason=f'needs {engine}')
    plain, model = load(config), load(config, engine=engine, photos=files)
    for options in ({}, dict(tau=0.1), dict(window=96, stride=64)):
        for file in files[:2]:
            expected, found = segment(plain, file, **options), segment(model, file, **options)
            assert (found.labels == expected.labels).mean() > 0.999
            np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)
    assert f'{engine} fp32 keeps 100.00 % of the labels of 2 photos\n' in capsys.readouterr().out
    assert list(model.extractor.forward.runners) == [None]  # any size
    assert list(model.extractor.embed.runners) == [(64, 64)]  # the crop for the class weight


@pytest.mark.parametrize('engine', ALL)
def test_labels_of_a_student(engine, student_file, capsys):
    pytest.importorskip(engine, reason=f'needs {engine}')
    scene = MiniatureDataset(scenes=9, world=1).draw('miniature/1/00000.png').image
    expected = segment(load(student_file), scene)
    found = segment(load(student_file, engine=engine), scene)
    assert (found.labels == expected.labels).mean() > 0.999
    assert f'{engine} fp32 keeps 100.00 % of the labels of 2 pictures of noise' in (
        capsys.readouterr().out
    )


def is_quantised(node, made):
    return all(name in made and made[name].op_type == 'DequantizeLinear' for name in node.input)


def range_of_first_block(extractor, images):
    """Least and greatest value of what the first block's first layer reads, after its norm."""
    values = []
    norm = [m for m in extractor.modules() if isinstance(m, torch.nn.LayerNorm)][1]
    with norm.register_forward_hook(lambda *call: values.append(call[2])), torch.no_grad():
        for image in images:
            extractor.forward.function(image)
    return min(float(v.min()) for v in values), max(float(v.max()) for v in values)


SIGNAL_AFTER_TWO_FILES = """
import gc, os, signal, sys
from mmseg.utils.onnx_files import openvino_runner
first, second = openvino_runner(sys.argv[1]), openvino_runner(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_after_two_openvino_files(tmp_path):
    """With a core for each file the process ends with a segmentation fault."""
    pytest.importorskip('openvino', reason='needs openvino')
    write_red(tmp_path / 'red.onnx', 3)
    command = [sys.executable, '-c', SIGNAL_AFTER_TWO_FILES, tmp_path / 'red.onnx']
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'handled\n')


def test_int8_is_calibrated_on_the_photos(config, files, capsys, monkeypatch):
    expected = segment(load(config), files[0]).labels
    model = load(config, engine='onnxruntime', precision='int8', photos=files)
    found = segment(model, files[0]).labels
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith('onnxruntime int8 keeps 9') and line.endswith('labels of 2 photos')
    assert 0.9 < (found == expected).mean() < 1
    path = max((cache_folder() / 'engines').glob('*.onnx'), key=lambda p: p.stat().st_mtime)
    graph = onnx.load(path).graph
    weights = {x.name: x for x in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    (conv,) = (node for node in graph.node if node.op_type == 'Conv')
    assert conv.input[0] not in made or made[conv.input[0]].op_type != 'DequantizeLinear'
    layer = next(n for n in graph.node if n.op_type == 'MatMul' and is_quantised(n, made))
    scale = onnx.numpy_helper.to_array(weights[made[layer.input[0]].input[1]])
    low, high = range_of_first_block(model.extractor, model.extractor.forward.images)
    assert scale == pytest.approx((high - low) / 255, rel=0.05)  # uint8 over the values of photos
    products = [n for n in graph.node if n.op_type == 'MatMul' and n.input[1] in made]
    quantised = [n for n in products if is_quantised(n, made)]
    assert len(quantised) > len(products) / 2
    monkeypatch.setattr(engines, 'quantise', None)  # the file is there
    segment(load(config, engine='onnxruntime', precision='int8', photos=files), files[0])
    with pytest.raises(UserError, match='not callable'):  # other photos, another file
        segment(load(config, engine='onnxruntime', precision='int8', photos=files[3:]), files[0])


def test_bf16_scores_in_fp32(config, files, monkeypatch, capsys):
    monkeypatch.setattr(engines, 'has_bf16', lambda: True)
    expected = segment(load(config), files[0])
    found = segment(load(config, precision='bf16', photos=files), files[0])
    assert 'torch bf16 keeps 9' in capsys.readouterr().out
    assert found.scores.dtype == torch.float32
    difference = (found.scores - expected.scores).abs().max()
    assert 0 < difference < 0.02


def test_photos_are_chosen_at_equal_distances():
    assert Engine('torch', 'fp32', 'cpu').choose(100) == [0, 50]
    assert Engine('onnxruntime', 'int8', 'cpu').choose(3) == [0, 1, 2]
    chosen = Engine('onnxruntime', 'int8', 'cpu').choose(1000)
    assert len(chosen) == CALIBRATED + COMPARED and set(np.diff(chosen)) == {62, 63}


def test_the_key_of_the_cache_has_all_that_decides(config, monkeypatch):
    def content(**options):
        model = load(config, cfg_options=options)
        engine = Engine('onnxruntime', 'fp32', 'cpu')
        return Part(engine, model.extractor, 'forward', model.extractor.forward).content()

    first = content()
    assert content() == first
    for changed in (
        {'model.backbone.pad': False},
        {'model.backbone.mean': (0.5, 0.5, 0.4)},
        {'readout': 'clearclip'},
        {'model.backbone.norm_eps': 1e-6},
    ):
        assert content(**changed) != first, changed
    torch.manual_seed(1)
    other = load(config, cfg_options={'model.backbone.pretrained': 'random'}).extractor
    part = Part(Engine('onnxruntime', 'fp32', 'cpu'), other, 'forward', other.forward)
    assert part.content() | dict(weights=first['weights']) == first
    monkeypatch.setattr(engines, 'SOURCES', ('clip',))
    assert content() | dict(code=first['code']) == first


def test_the_cache_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setenv('MMSEG_CACHE', str(tmp_path))
    monkeypatch.setattr(engines, 'KEPT', 2)
    written = []

    def write(path, metadata):
        written.append(metadata['content'])
        path.write_text(metadata['content'])

    paths = [engines._cached(dict(a=i), write) for i in (0, 1, 0, 2)]
    assert written == ['{"a": 0}', '{"a": 1}', '{"a": 2}'] and paths[0] == paths[2]
    assert sorted(tmp_path.glob('engines/*')) == sorted({paths[0], paths[3]})


def test_a_wrong_file_in_the_cache_is_one_line(config, files, tmp_path, monkeypatch):
    segment(load(config, engine='onnxruntime'), files[0])
    shutil.copytree(cache_folder(), tmp_path / 'cache')
    monkeypatch.setenv('MMSEG_CACHE', str(tmp_path / 'cache'))
    for path in (tmp_path / 'cache' / 'engines').iterdir():
        model = onnx.load(path)
        onnx.helper.set_model_props(model, dict(content='of somebody'))
        onnx.save(model, path)
    with pytest.raises(UserError, match=r'\.onnx is an export of other weights or settings; rem'):
        segment(load(config, engine='onnxruntime'), files[0])
    for path in (tmp_path / 'cache' / 'engines').iterdir():
        path.write_text('junk')
    with pytest.raises(UserError, match=r'cannot load .*\.onnx \(.*\); remove it'):
        segment(load(config, engine='onnxruntime'), files[0])


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(engine='onnx'), "engine is one of torch, onnxruntime, openvino, not 'onnx'"),
        (dict(engine='torch', precision='int8'), 'torch computes fp32, tf32, .*not int8'),
        (dict(engine='onnxruntime', precision='bf16'), 'computes fp32, int8 on this cpu, not bf16'),
        (
            dict(precision='bf16'),
            'the engine torch computes fp32, tf32, fp16 on this cpu, not bf16',
        ),
        (dict(engine='onnxruntime', precision='int8'), 'int8 is calibrated on photos, and none'),
        (dict(engine='onnxruntime', photos='/nowhere'), 'no such photo or folder: /nowhere'),
        (
            dict(engine='onnxruntime', cfg_options=dict(readout='resclip')),
            'a readout with feedback',
        ),
    ],
)
def test_what_an_engine_cannot_do_is_one_line(options, words, config, files, monkeypatch):
    monkeypatch.setattr(engines, 'has_bf16', lambda: False)
    with pytest.raises(UserError, match=words) as told:
        segment(load(config, **options), files[0])
    assert '\n' not in str(told.value)


@pytest.mark.parametrize('engine', ALL)
def test_engines_are_optional(engine, config, monkeypatch):
    monkeypatch.setitem(sys.modules, engine, None)
    extra = dict(onnxruntime='export', openvino='openvino')[engine]
    words = rf"the engine {engine} needs {engine}: pip install 'maskclip-plus\[{extra}\]'"
    with pytest.raises(UserError, match=words):
        load(config, engine=engine)


def test_a_network_without_an_export(config, files, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise RuntimeError('no such operator\nat all')

    monkeypatch.setenv('MMSEG_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(engines, 'write_onnx', fail)
    words = r'onnxruntime fp32 cannot run this network \(no such operator\); use the engine torch'
    with pytest.raises(UserError, match=words):
        segment(load(config, engine='onnxruntime'), files[0])


def test_an_engine_that_changes_labels_is_refused(config, files, monkeypatch):
    def negated(*arguments):
        run, known = engines_runner(*arguments)
        return lambda image: [-x for x in run(image)], known

    engines_runner = engines.onnx_runner
    monkeypatch.setattr(engines, 'onnx_runner', negated)
    with pytest.raises(UserError, match='onnxruntime fp32 keeps .* of the labels only'):
        segment(load(config, engine='onnxruntime', photos=files), files[0])


def test_an_exported_file_has_its_own_engine(tmp_path):
    write_red(tmp_path / 'a.onnx', 3, resize=[], scale=0.01)
    with pytest.raises(UserError, match='has its own engine and precision'):
        init_model(tmp_path / 'a.onnx', device='cpu', engine='onnxruntime')


def test_labels_are_compared_without_dropout():
    """A runner's network is in training mode until its loop runs."""
    seen = []
    loop = SimpleNamespace(
        runner=SimpleNamespace(model=torch.nn.Dropout()),
        dataloader=SimpleNamespace(dataset=[]),
        engine=SimpleNamespace(
            choose=lambda count: [], start=lambda model, labellers: seen.append(model.training)
        ),
    )
    SegTestLoop._start_engine(loop)
    assert seen == [False]


def test_a_test_by_an_engine(config, tmp_path, capsys):
    """Of the command line and of the config; the metric is that of PyTorch."""
    found = []
    by_config = ['--cfg-options', 'test_cfg.engine=onnxruntime', 'test_cfg.precision=int8']
    for i, options in enumerate(([], ['--engine', 'onnxruntime'], by_config)):
        assert run_test(config, '--work-dir', tmp_path / str(i), *options) == 0
        found.append(result_of(tmp_path / str(i))['metric']['aAcc'])
    out = capsys.readouterr().out
    assert 'onnxruntime fp32 keeps 100.00 % of the labels of 2 photos\n' in out
    assert 'onnxruntime int8 keeps 9' in out
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=0.05)
    options = ['--engine', 'onnxruntime', '--cfg-options', 'test_cfg.compile=True']
    assert run_test(config, '--work-dir', tmp_path / '3', *options) == 1
    assert 'test_cfg.compile is for the engine torch' in capsys.readouterr().err
