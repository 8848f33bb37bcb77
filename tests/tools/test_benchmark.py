"""tools/benchmark.py, and the promise that the fast ways give the plain way's results."""

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, load_tool, run_script
from test_train import student_config  # noqa: F401

from mmseg.errors import UserError
from mmseg.structures import UNLABELED, ignore_label

STAGES = {
    'test': {'decode', 'transform', 'copy', 'network', 'upsample + argmax', 'metric', 'other'},
    'train': {'data', 'teacher', 'student forward', 'backward', 'step', 'other'},
}


def benchmark(*arguments):
    """Run the tool, though other tests run."""
    return run_script('benchmark', *arguments, *(['--force'] * ('--compare' not in arguments)))


def results(path):
    return json.loads(path.read_text())['results']


def test_fast_labels_are_the_plain_ones(mini, tmp_path, monkeypatch):
    """Real photos: 99.9 % of the pixels, and mIoU to 0.02 of a hundred."""
    monkeypatch.chdir(ROOT)
    options = ['--number', 3, '--repeats', 1, '--batch', 3, '--out', tmp_path / 'b.json']
    twice = ['--cfg-options', 'model.resize_twice=True']
    config = ROOT / 'tests/configs/real_photos_base.py'
    assert benchmark(config, '--baseline', *options, *twice) == 0
    fast, plain = results(tmp_path / 'b.json')
    assert fast['labels_kept'] >= 0.999
    assert fast['mIoU'] == pytest.approx(plain['mIoU'], abs=2e-4)
    assert plain['mIoU'] > 0 and fast['batch'] == 3 and plain['batch'] == 1


def test_records_and_compare(tiny_config, tmp_path, capsys):
    out = tmp_path / 'b.json'
    options = ['--synthetic', '--number', 3, '--repeats', 2, '--out', out]
    assert benchmark(tiny_config, '--baseline', '--sizes', 64, 96, *options) == 0
    found = results(out)
    assert [(r['way'], r['size']) for r in found] == [
        ('config', 64),
        ('baseline', 64),
        ('config', 96),
        ('baseline', 96),
    ]
    for record in found:
        assert set(record['split_ms']) == STAGES['test']
        for value in (*record['split_ms'].values(), record['rate'], record['beside_network_ms']):
            assert 0 < value['low'] <= value['median'] <= value['high']
        assert record['memory']['host_mib'] > 50 and record['memory']['device_mib'] is None
    assert ['ratio' in record for record in found] == [True, False, True, False]
    assert found[2]['ratio']['to'] == f'{tiny_config} baseline' and found[2]['labels_kept'] > 0.99
    report = json.loads(out.read_text())
    for record in report['results']:
        record['rate']['median'] *= 2
    (tmp_path / 'twice.json').write_text(json.dumps(report))
    capsys.readouterr()
    assert benchmark('--compare', out, tmp_path / 'twice.json') == 0
    printed = capsys.readouterr().out
    assert printed.count('photos/s 2.00x') == 4 and printed.count('network 1.00x') == 8


def test_mistakes_are_one_line(tiny_config, tmp_path, capsys):
    (tmp_path / 'other.json').write_text('[1, 2]')
    empty = tmp_path / 'empty.json'
    empty.write_text('{"results": []}')
    windows = [tiny_config, '--baseline', '--number', 1, '--cfg-options', 'model.windows.stride=32']
    windows += ['model.windows.size=64']
    for arguments, said in (
        ([], 'name a CONFIG'),
        (['nowhere.py'], 'nowhere.py does not exist'),
        ([tiny_config, '--number', 0], '--number is at least 1, not 0'),
        ([tiny_config, '--repeats', 0], '--repeats is at least 1'),
        ([tiny_config, '--sizes', 64, -1], '--sizes is at least 1, not -1'),
        (windows, 'cannot have model.windows of this config'),
        (windows, '--cfg-options model.windows=None'),
        ([*windows, "model.post=[{'type':'PAMR'}]"], 'cannot have model.windows, model.post'),
        ([tiny_config, '--train'], 'trains no student'),
        ([tiny_config, '--train', '--engines', 'openvino'], '--engines are of tests'),
        (
            [tiny_config, '--engines', 'teapot'],
            "engine must be 'torch', 'onnxruntime' or 'openvino', not 'teapot'",
        ),
        (['--compare', tmp_path / 'none.json', empty], 'none.json is no JSON file of'),
        (['--compare', tmp_path / 'other.json', empty], 'other.json is no JSON file of'),
        (['--compare', empty, empty], 'no config in common'),
    ):
        assert benchmark(*arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error:') and said in line


def test_training_is_measured(tmp_path, student_config):  # noqa: F811
    out = tmp_path / 'b.json'
    options = ['--number', 1, '--repeats', 1, '--synthetic', '--batch', 2, '--out', out]
    assert benchmark(student_config, '--train', '--baseline', *options) == 0
    for record in results(out):
        assert set(record['split_ms']) == STAGES['train'] and record['rate']['median'] > 0
        assert all(value['median'] > 0 for value in record['split_ms'].values())


def test_engines_take_turns_with_the_others(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg.models.engines.has_bf16', lambda: True)
    options = ['--synthetic', '--number', 2, '--repeats', 2, '--out', tmp_path / 'b.json']
    assert benchmark(tiny_config, '--engines', 'torch', 'torch:bf16', *options) == 0
    found = results(tmp_path / 'b.json')
    assert [(r['engine'], r['precision']) for r in found] == [('torch', 'fp32')] * 2 + [
        ('torch', 'bf16')
    ]
    assert found[1]['labels_kept'] == 1 and 0.9 < found[2]['labels_kept'] < 1
    assert found[1]['ratio']['to'] == f'{tiny_config} config'


def test_other_work_is_seen(tiny_config, tmp_path, monkeypatch, capsys):
    tool = load_tool('benchmark')
    import _benchmark

    ticks = iter([(100, 200), (150, 300)])  # of all cores: a half of the time somebody works
    monkeypatch.setattr(_benchmark, '_ticks', lambda: next(ticks))
    monkeypatch.setattr(_benchmark.os, 'cpu_count', lambda: 4)
    assert _benchmark.busy_cores(0) == 2.0
    monkeypatch.setattr(_benchmark, 'busy_cores', lambda seconds=0.5: 0.8)
    out = tmp_path / 'b.json'
    monkeypatch.setattr('sys.argv', ['benchmark.py', str(tiny_config), '--out', str(out)])
    with pytest.raises(UserError, match='other processes keep 0.8 cores busy, so no figure is'):
        tool.main()
    assert not out.exists()


def test_a_processor_by_hand(tmp_path):
    load_tool('benchmark')
    from _benchmark import processor

    text = (
        'vendor_id\t: A\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: EPYC\nflags\t\t: fpu avx2\n'
    )
    (tmp_path / 'cpuinfo').write_text(text)
    (tmp_path / 'governor').write_text('performance\n')
    expected = dict(name='EPYC', family='25, model 17', flags='avx2')
    found = processor(tmp_path / 'cpuinfo', tmp_path / 'governor')
    assert found == expected | dict(governor='performance')
    assert processor(tmp_path / 'cpuinfo', tmp_path / 'none')['governor'] == 'not shown'
    assert processor(tmp_path / 'none') == {}


def test_limits_by_a_clock_that_ticks_milliseconds(monkeypatch):
    load_tool('benchmark')
    import _benchmark

    ticks = itertools.count()
    monkeypatch.setattr(_benchmark.time, 'perf_counter', lambda: next(ticks) / 1000)
    expected = dict(gflops=2 * 512**3 / 1e6, gb_s=2 * 4 * 2048**2 / 1e6)
    assert _benchmark.limits(512, 0.005) == pytest.approx(expected, abs=0.1)


def test_the_parts_of_a_split_are_the_whole():
    load_tool('benchmark')
    from _benchmark import Clock

    clock = Clock('cpu')
    clock.seconds.update(all=2.0, network=1.5, metric=0.25)
    expected = dict(network=750.0, metric=125.0, other=125.0)
    assert clock.milliseconds(['network', 'metric'], 2) == expected


def test_plain_pytorch_ends_with_its_block():
    load_tool('benchmark')
    from _benchmark import plain_pytorch

    from mmseg.kernels import is_plain

    with pytest.raises(KeyError), plain_pytorch(torch.nn.Linear(1, 1)):
        assert is_plain()
        raise KeyError
    assert not is_plain()


def test_plain_labels_of_synonyms_are_the_models():
    load_tool('benchmark')
    from types import SimpleNamespace

    from _benchmark import plain_labels

    from mmseg.models.postprocess import Scoring
    from mmseg.models.resize import photo_matrices

    logits = torch.randn(5, 4, 5, generator=torch.manual_seed(0))
    image = torch.empty(3, 29, 37)
    scoring = Scoring((0, 0, 1, 2, 2))
    model = SimpleNamespace(scoring=scoring, resize_twice=False, score_stride=8)
    matrices = photo_matrices(logits, (29, 37), input_size=(29, 37), stride=8)
    expected = scoring.labels(logits, *matrices)
    assert (plain_labels(model, logits, (29, 37), image) == expected).float().mean() > 0.999


def plain_pseudo_labels(target, scores, candidates, *, threshold, scale):
    """Fill unlabelled pixels from scores (N, C, h, w) that are resized as a whole."""
    ids = list(range(scores.shape[1]) if candidates is None else candidates)
    full = F.interpolate(scores[:, ids], target.shape[1:], mode='bilinear')
    probability, label = (full * scale).softmax(dim=1).max(dim=1)
    label = target.new_tensor(ids)[label]
    label[probability < threshold] = UNLABELED
    return torch.where(target == UNLABELED, label, target)


def plain_loss(model, scores, target):
    """Compute loss and agreement from scores (N, C, h, w) that are resized as a whole."""
    full = F.interpolate(scores, target.shape[1:], mode='bilinear')
    ignore = ignore_label(scores.shape[1])
    kept = target != ignore
    pixels = target.numel() if model.loss_over == 'all' else kept.sum()
    loss = F.cross_entropy(full, target, ignore_index=ignore, reduction='sum') / pixels
    agreement = ((full.argmax(dim=1) == target) & kept).sum()
    return dict(loss_ce=loss, acc_seg=100 * agreement / pixels)


def test_labels_and_losses_are_the_plain_ones():
    from types import SimpleNamespace

    from mmseg.models import MaskClipPlus
    from mmseg.models.pseudo_label import fill_unlabeled

    scores = torch.randn(2, 5, 4, 4, generator=torch.manual_seed(0)) / 10
    target = torch.full((2, 16, 16), -1)
    target[0, :4], target[1, :4] = 255, 3
    for candidates, threshold in ((None, 0.0), ([1, 3], 0.9)):
        options = dict(threshold=threshold, scale=100.0)
        found = plain_pseudo_labels(target, scores, candidates, **options)
        filled, _ = fill_unlabeled(target, scores, candidates, **options)
        assert torch.equal(found, filled)
    found[found == -1] = 255
    for over in ('all', 'labelled'):
        model = SimpleNamespace(loss_over=over)
        expected = plain_loss(model, scores, found)
        torch.testing.assert_close(MaskClipPlus.loss_against(model, scores, found), expected)


def test_scaling_is_drawn(tmp_path, capsys):
    from PIL import Image

    records = [
        dict(
            what='test',
            config='c.py',
            way=way,
            size=size,
            classes=size,
            photos=size,
            rate=dict(low=1, median=2, high=4),
            beside_network_ms=dict(low=1, median=2, high=3),
        )
        for way in ('config', 'baseline')
        for size in (100, 200, 400)
    ]
    picture, files = tmp_path / 'p.png', ('sizes.json', 'classes_3.json', 'photos_3.json')
    for file in files:
        (tmp_path / file).write_text(json.dumps(dict(results=records)))
    options = ['--results', tmp_path, '--out', picture]
    assert run_script('analysis/figures', 'scaling', *options) == 0
    drawn = np.asarray(Image.open(picture).convert('RGB')).reshape(-1, 3)
    for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
        assert (drawn == colour).all(axis=1).sum() > 300
    (tmp_path / files[0]).write_text('{"results": []}')
    assert run_script('analysis/figures', 'scaling', *options) == 1
    assert 'holds no record in sizes.json' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'folder'), [('scaling', 'AuthenticAMD_25_17_2_cores'), ('fast_path', '')]
)
def test_committed_figures_are_drawn_again(name, folder, tmp_path):
    from PIL import Image

    results = ['--results', ROOT / 'docs' / 'benchmarks' / folder, '--out', tmp_path / 'a.png']
    assert run_script('analysis/figures', name, *results) == 0
    drawn, kept = Image.open(tmp_path / 'a.png'), Image.open(ROOT / f'docs/images/{name}.png')
    assert drawn.size == kept.size
    difference = np.asarray(drawn.convert('RGB')).astype(int) - np.asarray(kept.convert('RGB'))
    assert np.abs(difference).mean() < 4


def test_compiling_is_asked_for(monkeypatch):
    from mmseg.engine import compile_network

    model = torch.nn.Linear(2, 2)
    model.window_logits = model.forward
    monkeypatch.setattr(torch, 'compile', lambda call: ('compiled', call))
    compile_network(model)
    assert model.window_logits == ('compiled', model.forward)
