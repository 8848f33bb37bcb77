"""tools/train.py on a tiny random teacher and made-up photos without masks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_tools import result_of, run_test

import mmseg.apis.train as training
from mmseg.apis.command import run_command
from mmseg.engine.sampler import StreamSampler
from mmseg.utils.checkpoint import newest_checkpoint, read_checkpoint

ROOT = Path(__file__).parent.parent


@pytest.fixture
def student_config(tmp_path, tiny_config, photos):
    """A config file of a SegFormer-b0 student of `tiny_config`'s model."""
    path = tmp_path / 'student.py'
    base = ROOT / 'configs' / '_base_'
    path.write_text(f"""
_base_ = ['{base}/datasets/480x480_unlabeled.py', '{base}/students/segformer_b0.py',
          '{base}/schedules/adamw_8k.py', '{base}/train_runtime.py']
vocabulary = ['cat', 'dog | puppy', 'sky']
teacher = 'tiny.py'
model = dict(backbone=dict(pretrained=None))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    type='SegDataset', data_root='{photos}', img_dir='JPEGImages', ann_dir=None,
    split='ImageSets/val.txt', pipeline=[
        dict(type='LoadImage'), dict(type='Unlabeled'),
        dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0)),
        dict(type='RandomCrop', size=48, cat_max_ratio=0.75), dict(type='RandomFlip'),
        dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]))
test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler',
    shuffle=False), dataset=dict(type='SegDataset', data_root='{photos}', img_dir='JPEGImages',
    ann_dir='SegmentationClass', split='ImageSets/val.txt', reduce_zero_label=True, pipeline=[
        dict(type='LoadImage'), dict(type='Resize', scale=(64, 64)), dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
train_cfg = dict(max_iters=6, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=2, save_best=None, max_keep_ckpts=5))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
""")
    return path


def run_train(*arguments):
    """`tools/train.py` in this process -> its exit code."""
    try:
        run_command(lambda: training.main([str(a) for a in arguments]))
    except SystemExit as end:
        return end.code
    return 0


def weights(folder, iteration):
    return read_checkpoint(folder / f'iter_{iteration}.pth')['state_dict']


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_train_then_test_without_the_teacher(student_config, tmp_path, capsys):
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 0
    assert 'parameters to train' in capsys.readouterr().out
    state = weights(tmp_path / 'run', 6)
    assert not same(state, weights(tmp_path / 'run', 2))
    assert not any('teacher' in name or 'clip' in name for name in state)
    (tmp_path / 'text.pth').unlink()  # the student has its text with it
    checkpoint = tmp_path / 'run' / 'iter_6.pth'
    assert run_test(student_config, checkpoint, '--work-dir', tmp_path / 'test') == 0
    assert 'mIoU' in result_of(tmp_path / 'test')['metric']


def test_validation_keeps_the_best_checkpoint(student_config, tmp_path):
    with student_config.open('a') as file:
        file.write('val_dataloader, val_cfg = test_dataloader, dict()\n')
        file.write('val_evaluator = dict(type="IoUMetric")\ntrain_cfg = dict(max_iters=4, ')
        file.write('val_interval=2)\ndefault_hooks = dict(checkpoint=dict(save_best="mIoU"))\n')
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 0
    assert len(list((tmp_path / 'run').glob('best_mIoU_iter_*.pth'))) == 1


def test_a_run_killed_and_resumed_ends_in_the_same_bits(student_config, tmp_path):
    assert run_train(student_config, '--work-dir', tmp_path / 'whole') == 0
    command = [sys.executable, 'tools/train.py', student_config, '--work-dir', tmp_path / 'cut']
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (tmp_path / 'cut' / 'iter_2.pth').exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'cut' / 'iter_6.pth').exists()
    assert run_train(student_config, '--work-dir', tmp_path / 'cut', '--resume') == 0
    assert same(weights(tmp_path / 'whole', 6), weights(tmp_path / 'cut', 6))


def test_a_truncated_checkpoint_is_passed_over(student_config, tmp_path):
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 0
    last = tmp_path / 'run' / 'iter_6.pth'
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match='iter_6.pth is damaged .* the one before it is used'):
        assert newest_checkpoint(tmp_path / 'run') == tmp_path / 'run' / 'iter_4.pth'


def test_sigterm_saves_and_says_how_to_go_on(student_config, tmp_path):
    command = [sys.executable, 'tools/train.py', student_config, '--work-dir', tmp_path / 'run']
    process = subprocess.Popen(
        [*map(str, command), '--cfg-options', 'train_cfg.max_iters=10000'],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not (tmp_path / 'run' / 'iter_2.pth').exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    line = errors.strip().splitlines()[-1]
    assert process.returncode == 0 and line.startswith('stopped behind iteration')
    assert '--resume' in line and newest_checkpoint(tmp_path / 'run') is not None


def test_two_processes_train(student_config, tmp_path):
    environment = dict(os.environ, PORT='29617')
    environment['PATH'] = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    done = subprocess.run(
        [
            'bash',
            'tools/dist_train.sh',
            str(student_config),
            '2',
            '--work-dir',
            str(tmp_path / 'run'),
            '--device',
            'cpu',
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / 'run' / 'iter_6.pth').is_file()


def test_the_stream_is_the_same_for_any_number_of_processes_and_any_start():
    def take(n, **options):
        sampler = StreamSampler(range(5), seed=3, **options.pop('init', {}))
        sampler.rank, sampler.processes = options.get('rank', 0), options.get('processes', 1)
        stream = iter(sampler)
        return [next(stream) for _ in range(n)]

    whole = take(12)
    assert sorted(index for index, _ in whole[:5]) == [0, 1, 2, 3, 4]
    assert [place for _, place in whole] == list(range(12))
    assert (
        take(6, rank=0, processes=2) == whole[::2] and take(6, rank=1, processes=2) == whole[1::2]
    )
    assert take(5, init=dict(start=7)) == whole[7:]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--resume'], 'holds no checkpoint to resume from'),
        (['--resume', 'gone.pth'], 'no checkpoint gone.pth'),
        (['--cfg-options', 'model.backbone.size=b9'], "MiT has no size 'b9'"),
        (['--cfg-options', 'model.backbone.pretrained=gone.pth'], 'no weights file gone.pth'),
        (['--cfg-options', 'train_dataloader.dataset.split=gone.txt'], 'split list .*gone.txt'),
    ],
)
def test_bad_input(student_config, tmp_path, capsys, arguments, message):
    import re

    assert run_train(student_config, '--work-dir', tmp_path / 'run', *arguments) == 1
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_nothing_to_train(tiny_config, capsys):
    assert run_train(tiny_config) == 1
    assert 'has nothing to train' in capsys.readouterr().err
