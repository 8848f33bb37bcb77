"""The command lines as a user runs them, on a tiny random CLIP and made-up photos."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import run_script
from forked import python_of, run_group
from PIL import Image

from mmseg.apis import command_lines
from mmseg.apis.command import parse_value, run_command, settings_of
from mmseg.engine import load_config
from mmseg.engine.hooks import LabelWriterHook
from mmseg.errors import UserError
from mmseg.utils import unique_names

ROOT = Path(__file__).resolve().parents[2]


def run_test(*arguments):
    """`tools/test.py` in this process -> its exit code."""
    try:
        run_command(lambda: command_lines.run_test([str(a) for a in arguments]))
    except SystemExit as end:
        return end.code
    return 0


def result_of(work_dir):
    (path,) = Path(work_dir).glob('eval_single_scale_*.json')
    return json.loads(path.read_text())


def test_evaluate_draw_and_write(tiny_config, tmp_path, capsys):
    code = run_test(
        tiny_config,
        '--eval',
        'mIoU',
        '--show-dir',
        tmp_path / 'show',
        '--out',
        tmp_path / 'out',
        '--save-scores',
        '--work-dir',
        tmp_path / 'work',
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ('cat', 'dog', 'sky', 'aAcc', 'mIoU', 'mPrec'))
    result = result_of(tmp_path / 'work')
    assert {'config', 'metric', 'environment', 'weights_sha256', 'photos'} <= set(result)
    assert set(result['metric']) >= {'aAcc', 'mIoU', 'mAcc', 'mPrec', 'IoU.cat', 'Acc.sky'}
    assert len(list((tmp_path / 'show').iterdir())) == 5
    assert sorted(p.suffix for p in (tmp_path / 'out').iterdir()) == ['.npz'] * 5 + ['.png'] * 5
    labels = Image.open(tmp_path / 'out' / 'p0.png')
    assert labels.mode == 'P' and labels.size == (80, 60) and np.asarray(labels).max() < 3
    scores = np.load(tmp_path / 'out' / 'p0.npz')
    assert scores['scores'].shape == (3, 25, 33) and list(scores['labels']) == ['cat', 'dog', 'sky']


def test_written_labels_give_the_printed_figures(tiny_config, tmp_path, photos):
    run_test(
        tiny_config, '--eval', 'mIoU', '--out', tmp_path / 'out', '--work-dir', tmp_path / 'work'
    )
    right = total = 0
    for path in (tmp_path / 'out').glob('*.png'):
        truth = np.asarray(Image.open(photos / 'SegmentationClass' / path.name)).astype(int)
        judged = (truth > 0) & (truth < 255)
        right += ((np.asarray(Image.open(path)) == truth - 1) & judged).sum()
        total += judged.sum()
    assert result_of(tmp_path / 'work')['metric']['aAcc'] == round(right / total, 4)


def test_neither_batch_nor_workers_change_a_figure(tiny_config, tmp_path):
    for name, batch, workers in (('a', 1, 0), ('b', 4, 2)):
        run_test(
            tiny_config,
            '--work-dir',
            tmp_path / name,
            '--cfg-options',
            f'test_dataloader.batch_size={batch}',
            f'test_dataloader.num_workers={workers}',
        )
    assert result_of(tmp_path / 'a')['metric'] == result_of(tmp_path / 'b')['metric']


def test_two_processes_count_no_photo_twice(tiny_config, tmp_path):
    run_test(tiny_config, '--work-dir', tmp_path / 'one')
    arguments = [tiny_config, '--work-dir', tmp_path / 'two']
    codes, printed = run_group('test.py', *arguments, out=tmp_path / 'printed')
    assert codes == [0, 0], printed
    one, two = (result_of(tmp_path / name) for name in ('one', 'two'))
    assert one['photos'] == two['photos'] == 5  # an odd number: no even split
    assert one['metric'] == two['metric'] and one['weights_sha256'] == two['weights_sha256']


@pytest.mark.parametrize('name', ['test', 'train', 'pseudo_label'])
def test_scripts_start_a_process_for_each_device(name, tmp_path):
    found, _ = python_of(tmp_path / 'bin', f'dist_{name}.sh', 'c.py', 2, '--out', 'a b')
    assert found[:2] == ['-m', 'torch.distributed.run'] and '--nproc-per-node=2' in found
    assert found[-6:] == [f'tools/{name}.py', 'c.py', '--out', 'a b', '--launcher', 'pytorch']


def test_other_photos_and_words_from_the_command_line(tiny_config, tmp_path, photos):
    (tmp_path / 'words.txt').write_text('cat\nsky\n')
    torch.save(torch.eye(2, 32), tmp_path / 'two.pth')
    code = run_test(
        tiny_config,
        '--show-dir',
        tmp_path / 'show',
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        f'vocabulary={tmp_path}/words.txt',
        f'model.decode_head.text.file={tmp_path}/two.pth',
    )
    assert code == 1  # the masks have a third class
    config = tmp_path / 'folder.py'
    config.write_text(
        f'_base_ = "{tiny_config}"\n'
        'test_dataloader = dict(dataset=dict(_delete_=True, '
        f'type="ImageFolderDataset", data_root="{photos}/JPEGImages", '
        'pipeline={{_base_.test_dataloader.dataset.pipeline}}))\n'
    )
    assert run_test(config, '--show-dir', tmp_path / 'show', '--work-dir', tmp_path / 'work') == 0
    assert len(list((tmp_path / 'show').iterdir())) == 5


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--eval', 'mIoU', '--work-dir', '{tmp}/clip.json/below'], 'cannot write to the folder'),
        (['--save-scores'], '--save-scores needs --out'),
        (['--device', 'abacus'], "no device 'abacus' here"),
        (['{tmp}/nowhere.pth'], 'no weights file'),
        (['--cfg-options', 'vocabulary=[a,b,c,d]'], 'have 3 rows, but the vocabulary .* has 4'),
        (['--cfg-options', 'test_dataloader.dataset.split=gone.txt'], 'split list .*gone.txt'),
        (['--cfg-options', 'model.decode_head.text.file=gone.pth'], 'no weights file gone.pth'),
        (['--launcher', 'pytorch'], 'needs the variables of torchrun'),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    tiny_config, tmp_path, capsys, monkeypatch, arguments, message
):
    import re

    monkeypatch.chdir(tmp_path)
    assert run_test(tiny_config, *[a.format(tmp=tmp_path) for a in arguments]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error:')]
    assert len(lines) == 1 and re.search(message, lines[0])


@pytest.mark.parametrize('workers', [0, 2])
def test_a_bad_photo_in_the_middle_is_named(tiny_config, tmp_path, photos, capsys, workers):
    path = photos / 'JPEGImages' / 'p3.jpg'
    path.write_bytes(path.read_bytes()[:-100])
    assert (
        run_test(
            tiny_config,
            '--out',
            tmp_path / 'out',
            '--work-dir',
            tmp_path / 'work',
            '--cfg-options',
            f'test_dataloader.num_workers={workers}',
        )
        == 1
    )
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: the image') and 'p3.jpg cannot be read' in error
    assert not [p for p in (tmp_path / 'out').iterdir() if 'part' in p.name]


def test_print_config(tiny_config, tmp_path, capsys):
    option = '--cfg-options'
    assert run_script('print_config', tiny_config, option, 'vocabulary=voc_20') == 0
    text = capsys.readouterr().out
    assert "\nvocabulary = 'voc_20'\n" in text
    assert text.count("vocabulary='voc_20',  # from vocabulary\n") == 2  # of model and data
    (tmp_path / 'printed.py').write_text(text)
    assert load_config(tmp_path / 'printed.py').model.vocabulary == 'voc_20'
    assert run_script('print_config', tiny_config, option, 'vocabularry=voc_20') == 1
    expected = "error: the config has no key 'vocabularry' (nearest: 'vocabulary')\n"
    assert capsys.readouterr().err == expected


def test_embed_text(tiny_config, tmp_path):
    options = ['--model', tmp_path / 'clip.json', '--pretrained', 'random', '--templates', 'plain']
    options += ['--vocabulary', 'cat', 'dog | puppy', '--out', tmp_path / 'rows.npy']
    assert run_script('embed_text', *options) == 0
    rows = np.load(tmp_path / 'rows.npy')
    assert rows.shape == (2, 32) and np.allclose(np.linalg.norm(rows, axis=1), 1)


@pytest.mark.parametrize(
    'text, value',
    [
        ('[dog,grass,potted plant]', ['dog', 'grass', 'potted plant']),
        ('["dog", "potted plant"]', ['dog', 'potted plant']),
        ('[a photo of a {}.]', ['a photo of a {}.']),
        ('/tmp/my photos, 2024', '/tmp/my photos, 2024'),
        ('(520,520)', (520, 520)),
        ('1e-3', 1e-3),
        ('true', True),
        ('None', None),
    ],
)
def test_options_keep_their_blanks(text, value):
    assert parse_value(text) == value


def test_outputs_never_land_on_inputs(tiny_config, tmp_path, photos, capsys):
    for option in ('--show-dir', '--out'):
        assert run_test(tiny_config, option, photos / 'JPEGImages', '--work-dir', tmp_path) == 1
        assert 'could be overwritten' in capsys.readouterr().err
    both = ['--show-dir', tmp_path / 'x', '--out', tmp_path / 'x']
    assert run_test(tiny_config, *both, '--work-dir', tmp_path) == 1
    assert 'choose two folders' in capsys.readouterr().err


def test_names_of_outputs_are_unique():
    paths = [Path(p) for p in ('r/a_b.jpg', 'r/a.b.jpg', 'r/a/c.jpg', 'r/a_b/c.jpg', 'r/c.png')]
    names = unique_names(paths)
    assert len(set(names.values())) == len(paths)


def test_labels_of_many_classes_are_written(tmp_path):
    from mmengine.structures import BaseDataElement

    hook = LabelWriterHook(tmp_path)
    hook.meta, hook.names = dict(classes=['x'] * 459, palette=[(0, 0, 0)] * 459), {'p.jpg': 'p'}
    sample = BaseDataElement(metainfo=dict(img_path='p.jpg'))
    sample.pred_sem_seg = torch.tensor([[0, 255, 458]], dtype=torch.int16)
    sample.seg_logits = torch.zeros(459, 1, 1)
    hook.after_test_iter(None, 0, outputs=[sample])
    assert np.asarray(Image.open(tmp_path / 'p.png')).tolist() == [[0, 255, 458]]


@pytest.mark.parametrize(
    'option',
    [
        'test_dataloader.batch_size=x',
        'test_dataloader.dataset.data_root=5',
        'a',
        'vocabulary=5',
        'model.backbone=None',
        'test_dataloader=None',
        'test_dataloader.sampler=abc',
        'test_dataloader.num_workers=-1',
    ],
)
def test_unusable_settings_are_one_line(tiny_config, tmp_path, capsys, option):
    assert run_test(tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options', option) == 1
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error:')]
    assert len(errors) == 1


def run_main(main):
    """`run_command` -> its exit code"""
    try:
        run_command(main)
    except SystemExit as end:
        return end.code
    return 0


def print_and_exit():
    print('x')
    sys.exit(0)


@pytest.mark.parametrize('main', [lambda: print('x'), print_and_exit])
def test_standard_output_on_a_full_device(main, monkeypatch, capsys):
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        assert run_main(main) == 1
        full.flush()  # as Python does in the end
    expected = 'error: cannot write to standard output: No space left on device\n'
    assert capsys.readouterr().err == expected


def test_a_reader_that_leaves_is_no_bug(monkeypatch, capsys):
    """As `| head` does: silence, and the code of a process that SIGPIPE ended."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, 'w') as pipe:
        monkeypatch.setattr(sys, 'stdout', pipe)
        assert run_main(lambda: print('x' * 100_000)) == 141
    assert capsys.readouterr().err == ''


def test_names_that_are_not_utf8_are_printed(monkeypatch, tmp_path):
    with open(tmp_path / 'out.txt', 'w', encoding='utf-8') as out:
        monkeypatch.setattr(sys, 'stdout', out)
        assert run_main(lambda: print('a\udcff')) == 0
    assert (tmp_path / 'out.txt').read_text() == 'a\\udcff\n'


@pytest.mark.parametrize('name', ['x' * 300, 'a.txt/b'])
def test_what_the_system_refuses_is_one_line(name, tmp_path, capsys):
    (tmp_path / 'a.txt').touch()
    assert run_main((tmp_path / name).read_text) == 1
    assert capsys.readouterr().err.startswith(f'error: {tmp_path / name}: ')


@pytest.mark.parametrize(
    'command',
    [
        ['tools/print_config.py', 'x'],
        ['demo/image_demo.py', 'x'],
        ['-c', 'import mmseg.cli as c; c.main()', 'test', 'x'],
    ],
)
def test_interrupted_while_it_imports(command, tmp_path):
    (tmp_path / 'torch.py').write_text('import time; print("begun", flush=True); time.sleep(30)')
    environment = dict(os.environ, PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}')
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == 'begun\n'
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130 and process.stderr.read().strip() == 'stopped'


def test_a_bug_keeps_its_traceback_and_asks_for_a_report(capsys):
    with pytest.raises(SystemExit, match='1'):
        run_command(lambda: {}['a bug'])
    errors = capsys.readouterr().err
    assert errors.startswith('Traceback') and "KeyError: 'a bug'" in errors
    assert 'Please report it' in errors.splitlines()[-1]


def test_what_a_library_refuses_is_the_users_and_what_we_raise_a_bug():
    config, weights = SimpleNamespace(filename='x.py'), [torch.zeros(1)]
    with pytest.raises(UserError, match='x.py has a setting .* Invalid learning rate: -1'):
        with settings_of(config):
            torch.optim.SGD(weights, lr=-1)
    for bug in ('None + 1', '{}[0]', 'None.lr', 'int("abc")'):
        with pytest.raises((TypeError, KeyError, AttributeError, ValueError)):
            with settings_of(config):
                eval(compile(bug, str(ROOT / 'mmseg' / 'models' / 'x.py'), 'eval'))


@pytest.mark.parametrize(
    'option, message',
    [
        ("test_evaluator=[{'type':'AgreementMetric'}]", 'begins with IoUMetric, not AgreementM'),
        ("test_dataloader.dataset.pipeline=[{'type':'Resize','scale':(9,9)}]", "makes 'img'"),
        ("test_dataloader.dataset.pipeline=[{'type':'LoadImage'}]", 'does not end in PackSegInput'),
    ],
)
def test_what_would_stop_a_test_late_stops_it_early(tiny_config, tmp_path, capsys, option, message):
    assert run_test(tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options', option) == 1
    errors = capsys.readouterr().err
    assert message in errors.splitlines()[-1] and '1/5 photos' not in errors


@pytest.mark.parametrize(
    'arguments, code, out, error',
    [
        ([], 0, 'print_config      Print a config as it is used', ''),
        (['print_config', '--help'], 0, 'usage: print_config.py', ''),
        (['test'], 1, '', 'error: name a config, or --photos DIR'),
        (['analyze_logs', 'nowhere'], 1, '', 'error: nowhere holds no */vis_data/scalars.json'),
        (['minature'], 1, '', "error: no command 'minature' (nearest: 'miniature'); there are "),
    ],
)
def test_one_name_for_all_commands(arguments, code, out, error, tmp_path):
    start = 'from mmseg.cli import main; main()'
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    run = subprocess.run(
        [sys.executable, '-c', start, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == code and out in run.stdout
    assert run.stderr.startswith(error) and run.stderr.count('error:') == bool(error)
