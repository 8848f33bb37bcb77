"""Pictures of runs, and the notebook."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, load_tool, run_script
from matplotlib.figure import Figure
from PIL import Image
from test_tools import run_test

from mmseg.errors import UserError


def test_a_resumed_run_is_one_curve(tmp_path):
    tool = load_tool('analyze_logs')
    rows = dict(a=[(50, 2.0), (100, 1.5)], b=[(100, 1.4), (150, 1.0)])
    for name, values in rows.items():
        folder = tmp_path / 'run' / name / 'vis_data'
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(step=step, loss=loss, lr=1e-3)) for step, loss in values]
        (folder / 'scalars.json').write_text('\n'.join([*lines, '{"cut off']))
    found = tool.read_run(tmp_path / 'run')
    assert {step: row['loss'] for step, row in found.items()} == {50: 2.0, 100: 1.4, 150: 1.0}
    assert run_script('analyze_logs', tmp_path / 'run', '--out', tmp_path / 'curves.png') == 0
    assert Image.open(tmp_path / 'curves.png').size == (1100, 700)


ODD = [
    '[]', '7', '"x"', 'null', '', '{', '{"metric": 3}', '{"metric": {}}', '{"step": 1e400}', '\0',
    '{"metric": {"mIoU": []}}', '{"metric": {"mIoU": "x"}}',
    '{"metric": {"mIoU": 1%s}}' % ('0' * 400),
    '{"step": "x", "loss": 1}', '{"step": null, "loss": 1}', '{"step": [], "loss": 1}',
    '[' * 10_000,
]  # fmt: skip


def test_odd_lines_of_a_log_are_passed_over(tmp_path):
    tool, folder = load_tool('analyze_logs'), tmp_path / 'run' / 'a' / 'vis_data'
    folder.mkdir(parents=True)
    good = ['{"step": 1, "loss": 2.0, "lr": "x"}', '{"step": 2, "loss": NaN, "mIoU": null}']
    lines = [line.encode() for line in [*ODD, *good]] + [b'\xff']
    (folder / 'scalars.json').write_bytes(b'\n'.join(lines))
    assert tool.read_run(tmp_path / 'run') == {1: dict(step=1, loss=2.0), 2: dict(step=2)}


@pytest.mark.parametrize('text', ODD)
def test_odd_results_are_one_line(text, tmp_path):
    path = tmp_path / 'eval_single_scale_1.json'
    path.write_text(text)
    with pytest.raises(UserError, match=f'{path} (is no result|cannot be read as JSON)'):
        load_tool('analysis/compare_runs').newest_result(tmp_path)
    path.rename(tmp_path / 'name_0.json')
    load_tool('leaderboard')
    from _leaderboard.board import Board

    with pytest.raises(UserError, match='name_0.json'):
        Board('name', [0], {}, None, results=tmp_path, measured_with=dict(scenes=1))


def test_a_scene_through_cells_by_hand(capsys):
    """One cell is mostly of class 0; two have shares that cross halfway between their centres."""
    tool = load_tool('analysis/cells')
    mask = torch.zeros(4, 4, dtype=torch.long)
    mask[:, 3] = 1
    assert torch.equal(tool.coarse(mask, 1, 2), torch.zeros_like(mask))
    assert torch.equal(tool.coarse(mask, 4, 2), mask)
    mask[:, 2] = 1
    assert torch.equal(tool.coarse(mask, 2, 2), mask)
    assert run_script('analysis/cells', '--grids', '3', '64', '--scenes', '5') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('3 x 3: ') and lines[1] == '64 x 64: 100.0 mIoU'
    assert run_script('analysis/cells', '--grids', '0') == 1
    assert '--grids and --scenes are 1 or more' in capsys.readouterr().err


def test_a_picture_of_no_known_format(tmp_path, capsys):
    (tmp_path / 'eval_single_scale_1.json').write_text('{"metric": {"mIoU": 1, "IoU.sky": 1}}')
    assert run_script('analysis/compare_runs', tmp_path, '--out', tmp_path / 'a.abc') == 1
    assert f'cannot write {tmp_path / "a.abc"}: Format' in capsys.readouterr().err


def test_no_log_is_one_line(tmp_path, capsys):
    assert run_script('analyze_logs', tmp_path) == 1
    assert 'holds no */vis_data/scalars.json' in capsys.readouterr().err


def test_confusion_matrix(tiny_config, photos, tmp_path, capsys):
    """Its diagonal and sums are what the metric's table says."""
    labels, out = tmp_path / 'labels', tmp_path / 'confusion.png'
    options = ['--eval', 'mIoU', '--work-dir', tmp_path / 'run']
    assert run_test(tiny_config, '--out', labels, *options) == 0
    assert run_script('analysis/confusion_matrix', tiny_config, labels, '--out', out) == 0
    counts = np.load(out.with_suffix('.npy'))
    (path,) = (tmp_path / 'run').glob('eval_single_scale_*.json')
    metric = json.loads(path.read_text())['metric']
    assert np.trace(counts) / counts.sum() == pytest.approx(metric['aAcc'], abs=1e-4)
    assert Image.open(out).size[0] > 200
    path = labels / 'p0.png'
    labelled = np.array(Image.open(path))
    labelled[0, 0] = 255
    for image, words in (
        (labelled, 'has pixels of no class'),
        (labelled[1:], f'{path} is 80x59, its photo 80x60'),
        (None, 'no such image'),
    ):
        path.unlink()
        if image is not None:
            Image.fromarray(image).save(path)
        assert run_script('analysis/confusion_matrix', tiny_config, labels, '--out', out) == 1
        assert words in capsys.readouterr().err


def test_bars_of_one_run_or_several(tmp_path, capsys):
    for name, values in dict(a=(0.5, 0.1), b=(0.2, None)).items():
        (tmp_path / name).mkdir()
        metric = dict(zip(('IoU.sky', 'IoU.dog'), values, strict=True), mIoU=0.3)
        content = json.dumps(dict(metric=metric))
        (tmp_path / name / 'eval_single_scale_1.json').write_text(content)
    runs, out = [tmp_path / 'a', tmp_path / 'b'], tmp_path / 'bars.png'
    for given in (runs[:1], runs):
        assert run_script('analysis/compare_runs', *given, '--out', out) == 0
        assert Image.open(out).size == (1210, 385)
        out.unlink()
    capsys.readouterr()
    assert run_script('analysis/compare_runs', *runs, '--out', out, '--names', 'a') == 1
    assert '1 --names for 2 runs' in capsys.readouterr().err
    assert run_script('analysis/compare_runs', tmp_path, '--out', out) == 1
    assert 'has no eval_single_scale_*.json' in capsys.readouterr().err


def test_bars_are_each_runs_own(tmp_path):
    tool = load_tool('analysis/compare_runs')
    rows = [(0.35, dict(sky=sky, dog=0.5)) for sky in (0, 0.2)]
    axis = Figure().add_subplot()
    tool.draw_bars(axis, rows, ['a', 'b'])
    assert [bar.get_height() for bar in axis.patches] == [50, 0, 50, 20]
    assert [label.get_text() for label in axis.get_xticklabels()] == ['dog', 'sky']


def test_a_photo_beside_the_labels_of_each_model(tmp_path, capsys):
    scene, miniature = ROOT / 'demo' / 'scenes' / 'heart.png', ROOT / 'configs' / 'miniature'
    models = ['--models', miniature / 'maskclip_rn.py', miniature / 'maskclip_vit.py']
    words = ['--classes', 'heart, grass', '--width', 64, '--out', tmp_path / 'a.png']
    assert run_script('analysis/compare_models', scene, *models, *words) == 0
    picture = np.asarray(Image.open(tmp_path / 'a.png').convert('RGB'))
    photo = Image.open(scene).convert('RGB').resize((64, 64))
    top = len(picture) - 68  # below its titles; 4 are the gap
    assert np.array_equal(picture[top : top + 64, :64], np.asarray(photo))
    capsys.readouterr()
    names = ['--names', 'one']
    assert run_script('analysis/compare_models', scene, *models, *names, *words) == 1
    assert capsys.readouterr().err == 'error: 2 --models have 1 --names\n'


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbformat = pytest.importorskip('nbformat', reason='needs nbclient')
    nbclient = pytest.importorskip('nbclient', reason='needs nbclient')
    pytest.importorskip('ipykernel', reason='needs ipykernel')
    install = ['-m', 'ipykernel', 'install', '--prefix', str(tmp_path), '--name', 'ours']
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    notebook = nbformat.read(ROOT / 'demo' / 'maskclip_demo.ipynb', as_version=4)
    assert all(not cell.get('outputs') for cell in notebook.cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('JUPYTER_PATH', str(tmp_path / 'share' / 'jupyter'))
        resources = dict(metadata=dict(path=str(ROOT / 'demo')))
        client = nbclient.NotebookClient(
            notebook, kernel_name='ours', timeout=120, resources=resources
        )
        client.execute()
    pictures = [
        output.data['image/png']
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', {})
    ]
    assert len(pictures) >= 5
    assert notebook.cells[-1].outputs[-1].text.endswith('% of the pixels\n')


def test_corruptions_are_measured_once_and_shown(tmp_path, monkeypatch, capsys):
    """A model that loses 5 points a severity, and half of its points to contrast."""

    def measured(config, checkpoint, **options):
        steps = config.test_dataloader.dataset.pipeline
        assert [step['type'] for step in steps][:1] == ['RenderScene']
        corrupted = [step for step in steps if step['type'] == 'Corrupt']
        lost = sum(0.05 * step['severity'] for step in corrupted)
        return dict(mIoU=0.2 if corrupted and corrupted[0]['name'] == 'contrast' else 0.4 - lost)

    monkeypatch.setattr('mmseg.apis.test.test', measured)
    leaf = ROOT / 'configs' / 'miniature' / 'maskclip_text_vit.py'
    command = ['analysis/corruptions', leaf, '--severities', 1, 3, '--work-dir', tmp_path]
    assert run_script(*command) == 0
    table = (tmp_path / 'corruptions.md').read_text()
    assert table in capsys.readouterr().out
    assert '| fog | 35.0 | 25.0 | 30.0 | 75 % |' in table
    assert '| contrast | 20.0 | 20.0 | 20.0 | 50 % |' in table
    assert '| mean | 34.0 | 24.7 | 29.3 | 73 % |' in table and 'corruption: 40.00.' in table
    assert Image.open(tmp_path / 'corruptions.png').size[0] > 1000
    monkeypatch.setattr('mmseg.apis.test.test', None)  # nothing is measured again
    assert run_script(*command) == 0
    assert run_script(*command, '--cfg-options', 'test_dataloader.dataset.scenes=8') == 1
    assert 'is of another config or checkpoint' in capsys.readouterr().err


def test_what_autograd_keeps_by_hand():
    """Of two layers around a ReLU: their inputs, (2, 3, 4, 4) and (2, 5, 4, 4)."""
    import torch

    tool = load_tool('analysis/step_memory')
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 1), torch.nn.ReLU(), torch.nn.Conv2d(5, 7, 1)
    )
    model = SimpleNamespace(
        features=layers,
        decode_head=SimpleNamespace(classify=lambda x: x),
        parameters=layers.parameters,
    )
    assert tool.bytes_kept(model, torch.rand(2, 3, 4, 4), half=False) == 4 * 2 * (3 + 5) * 16
    assert tool.bytes_of(layers) == 4 * (3 * 5 + 5 + 5 * 7 + 7)
    for config, said in (('maskclip_rn', 'trains no student'), ('clip_rn', 'trains no student')):
        with pytest.raises(UserError, match=said):
            next(tool.estimates(str(ROOT / 'configs' / 'miniature' / f'{config}.py'), 2, 64))


def test_the_memory_of_a_step_grows_with_the_batch():
    tool = load_tool('analysis/step_memory')
    config = str(ROOT / 'configs' / 'miniature' / 'maskclip_plus_vit_segformer_b0.py')
    small, large = (dict(tool.estimates(config, batch, 256)) for batch in (2, 4))
    kept = 'kept for the backward pass'
    assert large['fp32'][kept] == pytest.approx(2 * small['fp32'][kept], rel=0.02)
    assert small['--amp'][kept] < 0.8 * small['fp32'][kept]
    assert small['fp32']['optimizer'] == 2 * small['fp32']['weights']
