"""Files of weights, text rows and checkpoints: one reader, and one line about what is damaged."""

import io
import zipfile

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT, run_script
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from test_clip import Archive

from mmseg.clip import load_proxy, read_text_embeddings
from mmseg.errors import UserError
from mmseg.models import build_timm_backbone
from mmseg.utils.checkpoint import misfit, newest_checkpoint, read_checkpoint, read_file, read_state
from mmseg.vocabularies import load_vocabulary

WORDS = load_vocabulary(['cat', 'dog'])
PAGE = b'<!DOCTYPE html><html><body>404</body></html>'


def state():
    torch.manual_seed(0)
    return {'conv1.weight': torch.randn(4, 3), 'bn1.num_batches_tracked': torch.tensor(7)}


def training():
    """What a checkpoint of a training holds, small."""
    groups = [dict(lr=0.1, params=[0])]
    return dict(
        meta=dict(
            dict(iter=9, epoch=0, seed=0, config='a = 1\n'),
            settings=dict(seed='0'),
            dataset_meta=dict(classes=['cat', 'dog']),
        ),
        message_hub=dict(
            log_scalars={},
            runtime_info=dict(best_score=0.5, best_ckpt='best.pth'),
            resumed_keys=dict(best_score=True, best_ckpt=True),
        ),
        state_dict=state(),
        optimizer=dict(state={0: dict(exp_avg=torch.ones(4, 3))}, param_groups=groups),
    )


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def array(rows):
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


def script():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Archive(torch.nn.Conv2d(3, 2, 1)), torch.zeros(1)), buffer)
    return buffer.getvalue()


LAYOUTS = {
    'zip': lambda: saved(training()),
    'pickle': lambda: saved(training(), _use_new_zipfile_serialization=False),
    'safetensors': lambda: save({'text': torch.ones(2, 8)}),
    'script': script,
    'npy': lambda: array(np.ones((2, 8), np.float32)),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_is_read_whatever_its_name(layout, tmp_path):
    path = tmp_path / 'weights.anything'
    path.write_bytes(LAYOUTS[layout]())
    content = read_file(path)
    if layout in ('zip', 'pickle'):
        assert torch.equal(content['state_dict']['conv1.weight'], state()['conv1.weight'])
        assert read_checkpoint(path)['meta']['iter'] == 9
    elif layout == 'script':
        assert {tuple(t.shape) for t in read_state(path).values()} >= {(2, 3, 1, 1), (2,)}
    else:
        assert torch.equal(read_text_embeddings(path, WORDS, dim=8), torch.ones(2, 8))


class Runs:
    """What a pickle would call when it is read."""

    def __reduce__(self):
        return print, ('this ran',)


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def with_value(value):
    return saved(state() | {'conv1.bias': torch.tensor([0.0, value])})


def wide():
    """A tensor of 10**15 numbers that lie on one."""
    return torch.ones(1).expand(10**15)


def bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', bytes(2**26))
    return buffer.getvalue()


DAMAGED = {
    'a web page': (lambda: PAGE, 'a web page: a download that went wrong; check or replace'),
    'empty': (lambda: b'', 'is an empty file'),
    'text': (lambda: b'no weights', 'cut short, or a file of another kind'),
    'not UTF-8': (lambda: b'\xff\xfe\x00', 'cut short, or a file of another kind'),
    'a cut zip': (lambda: saved(state())[:-200], 'a zip archive that is damaged or cut short'),
    'a cut pickle': (lambda: LAYOUTS['pickle']()[:900], 'is damaged: a pickle'),
    'a cut safetensors': (lambda: save(state())[:-2], 'is damaged: a safetensors file'),
    'a cut array': (lambda: array(np.ones((2, 8)))[:-2], 'is damaged: a NumPy array'),
    'one bit': (
        lambda: flipped(
            saved(state()), saved(state()).index(state()['conv1.weight'].numpy().tobytes())
        ),
        'is damaged: a PyTorch file .Bad CRC-32',
    ),
    'a list': (lambda: saved([1, 2]), 'holds a list, not the weights of a network'),
    'a number': (lambda: saved(3), 'holds a int, not the weights of a network'),
    'no tensors': (lambda: saved({'epoch': 3}), 'holds no weights .found: epoch'),
    'odd state_dict': (lambda: saved({'state_dict': [1]}), 'state_dict that is no dict'),
    'code': (lambda: saved({'w': Runs()}), 'would run code when read; save its state_dict'),
    'NaN': (lambda: with_value(torch.nan), 'holds conv1.bias with NaN or Inf in it'),
    'Inf': (lambda: with_value(torch.inf), 'holds conv1.bias with NaN or Inf in it'),
    'half Inf': (
        lambda: save({'a': torch.full((3,), torch.inf).half()}),
        'holds a with NaN or Inf in it',
    ),
    'complex': (lambda: saved({'a': torch.ones(3) * 1j}), 'a, which is not a dense tensor'),
    'sparse': (lambda: saved({'a': torch.eye(3).to_sparse()}), 'a, which is not a dense tensor'),
    'wide': (lambda: saved({'a': wide()}), 'a, which claims to be larger than the file'),
    'a bomb': (bomb, 'would unpack to far more than its size'),
    'pickled array': (lambda: array(np.array([{}], object)), 'is damaged: a NumPy array'),
}


@pytest.mark.parametrize('name', DAMAGED)
def test_what_is_damaged_is_named_in_a_line(name, tmp_path, capsys):
    make, words = DAMAGED[name]
    path = tmp_path / 'w.pth'
    path.write_bytes(make())
    with pytest.raises(UserError, match=words) as told:
        read_state(path)
    assert 'w.pth' in str(told.value) and '\n' not in str(told.value)
    assert 'this ran' not in capsys.readouterr().out


def test_files_without_checksums_are_read(tmp_path):
    try:
        torch.serialization.set_crc32_options(False)
        (tmp_path / 'w.pt').write_bytes(saved(state()))
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_state(tmp_path / 'w.pt')['conv1.weight'], state()['conv1.weight'])


@pytest.mark.parametrize('damage', ['a web page', 'a cut zip', 'a list', 'no meta', 'NaN'])
def test_resume_passes_over_what_cannot_be_resumed(damage, tmp_path, recwarn):
    (tmp_path / 'iter_8.pth').write_bytes(saved(training()))
    content = saved({'state_dict': state()}) if damage == 'no meta' else DAMAGED[damage][0]()
    (tmp_path / 'iter_9.pth').write_bytes(content)
    (tmp_path / 'iter_best.pth').write_bytes(b'')
    assert newest_checkpoint(tmp_path) == tmp_path / 'iter_8.pth'
    assert 'iter_9.pth' in str(recwarn.pop(UserWarning).message)
    assert newest_checkpoint(tmp_path / 'nowhere') is None


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('test', ['maskclip_rn.py', 'w.pth']),
        ('export', ['maskclip_plus_rn_segformer_b0.py', 'w.pth', '--out', 'a.onnx']),
        ('publish_model', ['maskclip_plus_rn_segformer_b0.py', 'w.pth', 'a.safetensors']),
        ('embed_text', ['--model', 'ViT-B-32', '--pretrained', 'w.pth', '--out', 'a.npy']),
        ('model_converters/mit2mmseg', ['w.pth', 'b.pth']),
    ],
)
def test_every_tool_reads_through_it(tool, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'w.pth').write_bytes(PAGE)
    configs = ROOT / 'configs' / 'miniature'
    arguments = [configs / word if word.endswith('.py') else word for word in arguments]
    assert run_script(tool, *arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'w.pth is no weights file: it is a web page' in last
    with pytest.raises(UserError, match='w.pth is no weights file: it is a web page'):
        CheckpointLoader.load_checkpoint('w.pth')  # what mmengine resumes with


def test_weights_of_timm_are_opened_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'pretrain').mkdir()
    fetched = tmp_path / 'pretrain' / 'resnet10t.c3_in1k.safetensors'
    fetched.write_bytes(PAGE)
    with pytest.raises(UserError, match='c3_in1k.safetensors is no weights file: it is a web'):
        build_timm_backbone('resnet10t', pretrained=True)
    own = timm.create_model('resnet10t')
    fetched.write_bytes(save(own.state_dict()))
    body = build_timm_backbone('resnet10t', pretrained=True).body
    assert torch.equal(body.layer1[0].conv1.weight, own.layer1[0].conv1.weight)
    create = timm.create_model

    def out_of_reach(*names, pretrained=False, **options):
        return 1 / 0 if pretrained else create(*names, **options)

    monkeypatch.setattr(timm, 'create_model', out_of_reach)
    for build in (build_timm_backbone, load_proxy):
        with pytest.raises(UserError, match='weights of resnet18 could not be fetched .division'):
            build('resnet18', pretrained=True if build is build_timm_backbone else 'timm')


def test_misfit_names_what_differs():
    own = {'a': torch.zeros(2), 'b': torch.zeros(3), 'c': torch.zeros(1), 'n': torch.tensor(1)}
    given = {'a': torch.zeros(4), 'b': torch.zeros(3).int(), 'n': torch.tensor(1.0), 'd': own['c']}
    assert misfit(own, own) == misfit(own, {k: own[k] for k in 'abn'}, {'c'}) == ''
    told = misfit(own, given)
    assert told == (
        'missing: c; unexpected: d; shapes: a is (4,), expected (2,); '
        'types: b is torch.int32, expected torch.float32'
    )
