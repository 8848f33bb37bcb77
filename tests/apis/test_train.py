"""tools/train.py on a tiny random teacher and made-up photos without masks."""

import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import forget_runs, group_environment
from forked import python_of, start_script
from test_tools import result_of, run_test

from mmseg.apis import command_lines, init_model
from mmseg.apis.command import run_command
from mmseg.apis.publish import publish
from mmseg.engine import init_processes, load_config
from mmseg.engine.samplers import StreamSampler
from mmseg.errors import UserError
from mmseg.models.student_file import require_same_training
from mmseg.registry import MODELS
from mmseg.utils.checkpoint import newest_checkpoint, read_checkpoint
from mmseg.vocabularies import load_vocabulary

ROOT = Path(__file__).resolve().parents[2]


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
log_processor = dict(window_size=1)
param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=3, by_epoch=False),
    dict(type='PolyLR', power=1.0, by_epoch=False)]
default_hooks = dict(logger=dict(interval=1),
    checkpoint=dict(interval=2, save_best=None, max_keep_ckpts=5))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
""")
    return path


def run_train(*arguments):
    """`tools/train.py` in this process -> its exit code."""
    forget_runs()
    try:
        run_command(lambda: command_lines.run_train([str(a) for a in arguments]))
    except SystemExit as end:
        return end.code
    return 0


def weights(folder, iteration):
    return read_checkpoint(folder / f'iter_{iteration}.pth')['state_dict']


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_train_then_test_without_the_teacher(student_config, tmp_path, capsys):
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 0
    assert 'M to train, ' in capsys.readouterr().out
    state = weights(tmp_path / 'run', 6)
    assert not same(state, weights(tmp_path / 'run', 2))
    assert not any('teacher' in name or 'clip' in name for name in state)
    (tmp_path / 'text.pth').unlink()  # the student has its text with it
    checkpoint = tmp_path / 'run' / 'iter_6.pth'
    models = init_model(checkpoint, device='cpu'), init_model(student_config, checkpoint, 'cpu')
    assert same(*(model.student.state_dict() for model in models))
    assert [model.transforms[0].scale for model in models] == [[64, 64], (64, 64)]
    config = tmp_path / 'run' / 'student.py'  # with its tests, which leave it as it is
    written = config.read_text()
    assert run_test(config, checkpoint, '--work-dir', tmp_path / 'run') == 0
    assert 'mIoU' in result_of(tmp_path / 'run')['metric'] and config.read_text() == written


def test_what_a_run_leaves_behind(student_config, tmp_path, capsys):
    options = ['--cfg-options', 'runner.max_iters=3', 'optimizer.lr=0.002']  # mmsegmentation 0.x's
    folder = tmp_path / 'run'
    assert run_train(student_config, '--work-dir', folder, *options) == 0
    assert (folder / 'latest.pth').resolve() == (folder / 'iter_3.pth').resolve()
    assert 'max_iters=3' in (folder / 'student.py').read_text()
    assert 'lr=0.002' in (folder / 'student.py').read_text()
    assert len(losses(folder)) == 3
    assert len(list(folder.glob('*/vis_data/events.out.tfevents.*'))) == 1
    record = json.loads(next(folder.glob('*/run.json')).read_text())
    assert (
        record['seed'] == 0 and record['to_iteration'] == 3 and 'PyTorch' in record['environment']
    )
    assert record['weights_sha256'] != record['trained_sha256']
    line = capsys.readouterr().err.splitlines()[-1]
    for word in ('3/3', 'loss', 'agreement with the labels', 'waiting for data', 'memory', 'left'):
        assert word in line


def test_any_timm_backbone_under_any_head(student_config, tmp_path):
    """ConvNeXt-tiny under SegFormer's head, as configs/_base_/students/convnext_tiny.py has it."""
    text = student_config.read_text().replace('segformer_b0.py', 'convnext_tiny.py')
    student_config.write_text(text)
    options = ['--cfg-options', 'train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=1']
    assert run_train(student_config, '--work-dir', tmp_path / 'run', *options) == 0
    first, state = (weights(tmp_path / 'run', i) for i in (1, 2))
    assert any(name.startswith('backbone.body.stages_3') for name in state)
    for part in ('backbone.body.stages_3', 'decode_head.fusion_conv'):
        name = next(n for n in state if n.startswith(part) and n.endswith('weight'))
        assert not torch.equal(state[name], first[name])


ZERO_SHOT = """
vocabulary = ['background', 'cat', 'dog | puppy', 'sky']
unseen = ['cat', 'sky']
model = dict(learned_classes=['background'], start_clip_guided=(1, 2), start_self_train=(3, -1),
    backbone=dict(model='resnet10t', pretrained=None), distill_weight=0.5)
train_dataloader = dict(dataset=dict(ann_dir='SegmentationClass', pipeline=[
    dict(type='LoadImage'), dict(type='LoadAnnotations', suppress_labels='unseen'),
    dict(type='RandomCrop', size=48), dict(type='PackSegInputs')]))
test_dataloader = dict(dataset=dict(reduce_zero_label=False))
"""


@pytest.fixture
def zero_shot_config(student_config):
    """Seen classes with masks, unseen ones without, a learned background, DeepLabv3+."""
    folder = student_config.parent
    student_text = student_config.read_text().replace('segformer_b0.py', 'deeplabv3plus_r101.py')
    student_text = re.sub('(?m)^(vocabulary|model|teacher) = .*\n', '', student_text)
    student_config.write_text(
        student_text.replace('reduce_zero_label=True', 'reduce_zero_label=False')
    )
    path = folder / 'zero_shot.py'
    path.write_text(f"_base_ = './{student_config.name}'\nteacher = 'tiny.py'\n{ZERO_SHOT}")
    rows = torch.nn.functional.normalize(torch.randn(4, 32), dim=1)
    torch.save(rows, folder / 'text.pth')
    return path


def test_zero_shot(zero_shot_config, tmp_path, capsys):
    assert run_train(zero_shot_config, '--work-dir', tmp_path / 'run') == 0
    first, last = (weights(tmp_path / 'run', i) for i in (2, 6))
    name = 'decode_head.conv_seg.{}'.format
    assert last[name('learned')].shape == (1, 32)
    assert not torch.equal(first[name('learned')], last[name('learned')])
    assert torch.equal(first[name('embeddings')], last[name('embeddings')])
    line = next((tmp_path / 'run').glob('*/vis_data/scalars.json')).read_text().splitlines()[-1]
    assert json.loads(line)['loss_distill'] > 0
    checkpoint = tmp_path / 'run' / 'latest.pth'
    assert run_test(zero_shot_config, checkpoint, '--work-dir', tmp_path / 'test') == 0
    assert 'mIoU_unseen' in capsys.readouterr().out
    metric = result_of(tmp_path / 'test')['metric']
    unseen = [metric['IoU.cat'], metric['IoU.sky']]
    assert metric['mIoU_unseen'] == pytest.approx(sum(unseen) / 2, abs=1e-4)


def test_a_leaked_label_stops_the_training(zero_shot_config, tmp_path, capsys):
    with zero_shot_config.open('a') as file:
        file.write('train_dataloader["dataset"]["pipeline"][1] = dict(type="LoadAnnotations")\n')
    assert run_train(zero_shot_config, '--work-dir', tmp_path / 'run') == 1
    assert re.search(r'p\d.jpg shows (cat|sky|cat, sky), which', capsys.readouterr().err)


def test_validation_prints_its_table(student_config, tmp_path, capsys):
    with student_config.open('a') as file:
        file.write('val_dataloader, val_cfg = test_dataloader, dict()\n')
        file.write('val_evaluator = dict(type="IoUMetric")\n')
        file.write('train_cfg = dict(max_iters=2, val_interval=2)\n')
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 0
    printed = capsys.readouterr().out
    assert 'validation at iteration 2' in printed and printed.count('mIoU over the') == 1


EMA = "custom_hooks=[{'type':'NonFiniteLossHook'},{'type':'EMAHook','momentum':0.1}]"


@pytest.mark.parametrize(
    'seed, options',
    [(0, []), (1, ['--cfg-options', EMA]), (2, ['--amp', '--deterministic'])],
    ids=['plain', 'ema', 'amp'],
)
def test_a_run_killed_and_resumed_ends_in_the_same_bits(student_config, tmp_path, seed, options):
    options = [*options, '--seed', seed]
    assert run_train(student_config, '--work-dir', tmp_path / 'whole', *options) == 0
    cut = tmp_path / 'cut'
    process = start_script('train.py', student_config, '--work-dir', cut, *options)
    while not (cut / 'iter_2.pth').exists() and process.is_alive():
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 1.0))
    process.kill()
    process.join()
    (cut / 'iter_6.pth').unlink(missing_ok=True)  # it may have been quick
    assert run_train(student_config, '--work-dir', cut, '--resume', *options) == 0
    whole, resumed = (
        read_checkpoint(folder / 'iter_6.pth') for folder in (tmp_path / 'whole', cut)
    )
    for part in ('state_dict', *(['ema_state_dict'] if EMA in options else [])):
        assert same(whole[part], resumed[part])
    assert losses(tmp_path / 'whole')[-1] == losses(cut)[-1]


def losses(folder):
    """The losses of a run's JSON lines, those of its last part last."""
    lines = [
        line
        for file in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]
    return [json.loads(line)['loss'] for line in lines if 'loss' in line]


def test_a_truncated_checkpoint_is_passed_over(student_config, tmp_path):
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 0
    last = tmp_path / 'run' / 'iter_6.pth'
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match='iter_6.pth .* cut short.* the one before it is used'):
        assert newest_checkpoint(tmp_path / 'run') == tmp_path / 'run' / 'iter_4.pth'


def test_two_processes_train_and_stop_together(student_config, tmp_path):
    """SIGTERM reaches one of them alone; both leave behind the same iteration."""
    run = tmp_path / 'run'
    command = ['bash', 'tools/dist_train.sh', student_config, 2, '--work-dir', run]
    command += ['--device', 'cpu', '--cfg-options', 'train_cfg.max_iters=10000']
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=group_environment(MARK=str(run)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / 'iter_2.pth').exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process_of(f'MARK={run}', 'LOCAL_RANK=1'), signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-2000:]
    done = re.search(
        r'stopped after iteration (\d+) of 10000; the same command with --resume', errors
    )
    assert newest_checkpoint(run) == run / f'iter_{done[1]}.pth'


def process_of(*variables):
    """-> the id of the process that has these variables in its environment"""
    for file in Path('/proc').glob('[0-9]*/environ'):
        with contextlib.suppress(OSError):
            if {v.encode() for v in variables} <= set(file.read_bytes().split(b'\0')):
                return int(file.parent.name)


SRUN = """while [[ $1 == --* ]]; do echo "$1" >> "$(dirname "$0")/asked"; shift; done
SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODELIST=here exec "$@"
"""


def test_slurm_starts_the_same_training(student_config, tmp_path):
    """A stand-in for srun: one process, with the variables that slurm would set."""
    stand_ins = dict(srun=SRUN, scontrol='echo 127.0.0.1')
    arguments = ['gpu', 'job', student_config, 1, '--work-dir', tmp_path / 'run', '--device', 'cpu']
    python = python_of(tmp_path / 'bin', 'slurm_train.sh', *arguments, **stand_ins)
    asked = (tmp_path / 'bin' / 'asked').read_text().split()
    assert {'--partition=gpu', '--ntasks=1', '--gres=gpu:1'} < set(asked)
    (unbuffered, script, *arguments), variables = python
    assert (unbuffered, script) == ('-u', 'tools/train.py')
    assert arguments[-2:] == ['--launcher', 'slurm']
    process = start_script('train.py', *arguments, out=tmp_path / 'printed', **variables)
    process.join(timeout=120)
    assert process.exitcode == 0, (tmp_path / 'printed').read_text()
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


READ = "{'type':'LoadImage'}"
VAL = """
val_dataloader, val_cfg = test_dataloader, dict()
val_evaluator = dict(type='IoUMetric')
"""


@pytest.mark.parametrize(
    'option, message',
    [
        (
            "train_dataloader.dataset.pipeline=[{'type':'Unlabeled'}]",
            'a step that makes .ori_shape',
        ),
        (f'train_dataloader.dataset.pipeline=[{READ}]', 'does not end in PackSegInputs'),
        (
            f"val_dataloader.dataset.pipeline=[{READ},{{'type':'PackSegInputs'}}]",
            'val_dataloader.dataset.pipeline makes no gt_sem_seg: .*LoadAnnotations',
        ),
        ('default_hooks.checkpoint.save_best=mIou', r"gives no 'mIou' \(nearest: 'mIoU'\)"),
        (
            'optim_wrapper.optimizer.lr=-1',
            'optim_wrapper.optimizer.lr must be a number of at least 0, not -1',
        ),
        ('param_scheduler.0.begin=9', 'cannot be used: end should be larger than begin'),
        ('val_evaluator=[]', 'val_evaluator names no metric'),
    ],
)
def test_what_would_stop_a_training_late_stops_it_early(
    student_config, tmp_path, capsys, monkeypatch, option, message
):
    """Mistakes of data and metrics before any weights are read, the others before a step."""
    student_config.write_text(student_config.read_text() + VAL)
    run = tmp_path / 'run'
    if 'cannot be used' not in message:  # of optimizer and schedules
        monkeypatch.setattr(MODELS, 'build', lambda config: pytest.fail('weights were read'))
    assert run_train(student_config, '--work-dir', run, '--cfg-options', option) == 1
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not losses(run)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--resume'], 'holds no checkpoint to resume from'),
        (['--resume', 'gone.pth'], 'no checkpoint gone.pth'),
        (
            ['--cfg-options', 'model.backbone.size=b9'],
            "model.backbone.size must be 'b0', .* or 'b5', not 'b9'",
        ),
        (['--cfg-options', 'model.backbone.pretrained=gone.pth'], 'no weights file gone.pth'),
        (['--cfg-options', 'train_dataloader.dataset.split=gone.txt'], 'split list .*gone.txt'),
        (['--cfg-options', 'train_dataloader.dataset.split=empty.txt'], 'empty.txt is empty'),
        (['--cfg-options', 'vocabulary=[a,b]'], 'text.pth have 3 rows.* 2'),
        (['--cfg-options', 'unseen=[horse]'], "no class 'horse'"),
        (
            [
                '--cfg-options',
                'train_dataloader.batch_size=1',
                'model.decode_head.type=DepthwiseSeparableASPPHead',
            ],
            'batch normalisation cannot train on one position',
        ),
    ],
)
def test_bad_input(student_config, photos, tmp_path, capsys, arguments, message):
    (photos / 'empty.txt').write_text('\n')
    assert run_train(student_config, '--work-dir', tmp_path / 'run', *arguments) == 1
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_a_loss_that_is_no_number_stops_before_it_is_saved(student_config, tmp_path, capsys):
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=1e30', 'train_cfg.max_iters=4']
    assert run_train(student_config, '--work-dir', tmp_path / 'run', *options) == 1
    assert re.search('loss of iteration [234] is (nan|inf)', capsys.readouterr().err)
    report = json.loads((tmp_path / 'run' / 'nonfinite_loss.json').read_text())
    assert len(report['photos']) == 2 and all(p.endswith('.jpg') for p in report['photos'])
    assert not list((tmp_path / 'run').glob('iter_4.pth'))


def test_a_full_disk_leaves_the_checkpoints_before_it(student_config, tmp_path, capsys):
    """A limit on the size of files stands for the disk: no further checkpoint fits."""
    run = tmp_path / 'run'
    assert run_train(student_config, '--work-dir', run, '--cfg-options', 'runner.max_iters=2') == 0
    size = (run / 'iter_2.pth').stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100_000, limit[1]))
    try:
        assert run_train(student_config, '--work-dir', run, '--resume') == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert re.search('cannot write .*iter_4.pth', capsys.readouterr().err.splitlines()[-1])
    assert sorted(p.name for p in run.glob('*.pth')) == ['iter_2.pth', 'latest.pth']
    assert newest_checkpoint(run) == run / 'iter_2.pth' and not list(run.glob('.*part*'))


def test_a_checkpoint_of_another_student(zero_shot_config, tmp_path, capsys):
    other, options = tmp_path / 'other', ['--cfg-options', 'train_cfg.max_iters=1']
    assert run_train(zero_shot_config, '--work-dir', other, *options) == 0
    for start in ('--resume', '--load-from'):
        arguments = [start, other / 'iter_1.pth', *options, 'model.backbone.model=resnet14t']
        assert run_train(zero_shot_config, '--work-dir', tmp_path / 'run', *arguments) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert 'iter_1.pth' in error and ('another model' in error or 'does not fit' in error)
    arguments = ['--load-from', other / 'iter_1.pth', '--work-dir', tmp_path / 'run', *options]
    assert run_train(zero_shot_config, *arguments) == 0


def test_a_damaged_photo_is_named_or_skipped(student_config, photos, tmp_path, capsys):
    photo = photos / 'JPEGImages' / 'p1.jpg'
    photo.write_bytes(photo.read_bytes()[:400])
    assert run_train(student_config, '--work-dir', tmp_path / 'run') == 1
    assert 'p1.jpg cannot be read' in capsys.readouterr().err.splitlines()[-1]
    with pytest.warns(UserWarning, match='skipped: .*p1.jpg'):
        assert run_train(student_config, '--work-dir', tmp_path / 'again', '--skip-bad') == 0


def test_more_processes_than_devices(monkeypatch):
    class OneDevice:
        device_count = staticmethod(lambda: 1)

    monkeypatch.setattr(torch, 'get_device_module', lambda device: OneDevice)
    variables = dict(RANK='1', LOCAL_RANK='1', WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
    threads = str(torch.get_num_threads())  # which later tests keep
    for name, value in dict(variables, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match='process 1 .* has no device: 1 found'):
        init_processes('pytorch', 'gpu')


ENDS = """
import atexit
from mmseg.engine import end_processes, init_processes

class Late:
    def __del__(self):
        print('Python was taken down')

end_processes()  # no group yet: nothing happens
init_processes('pytorch', 'cpu')
late = Late()
atexit.register(print, 'exit functions ran')
end_processes()
print('went on')
"""


def test_a_process_of_a_group_ends_before_python_does():
    """gloo's threads abort a Python that is being taken down: one run of five, before."""
    group = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1')
    environment = group_environment(PYTHONPATH=str(ROOT), **group)
    command = [sys.executable, '-c', ENDS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, 'exit functions ran\n'), done.stderr[-2000:]


def test_a_student_is_not_tested_untrained(student_config, capsys):
    assert run_test(student_config) == 1
    assert 'name its checkpoint' in capsys.readouterr().err.splitlines()[-1]


def test_nothing_to_train(tiny_config, capsys):
    assert run_train(tiny_config) == 1
    assert 'has nothing to train' in capsys.readouterr().err


REVERSED = "vocabulary=['sky','dog | puppy','cat']"


def test_a_checkpoint_of_other_classes_is_refused(student_config, tmp_path, capsys):
    """The same number of rows, in another order: labels would be named wrongly."""
    run, file = tmp_path / 'run', tmp_path / 'published.safetensors'
    options = ['--cfg-options', 'train_cfg.max_iters=1']
    assert run_train(student_config, '--work-dir', run, *options) == 0
    message = "other classes: class 0 is 'cat', in (given as a list|the data set) 'sky'"
    publish(load_config(student_config), run / 'iter_1.pth', file)
    new = tmp_path / 'new'
    starts = [(run, '--resume'), *((new, '--load-from', f) for f in (run / 'iter_1.pth', file))]
    for start in starts:
        assert run_train(student_config, '--work-dir', *start, '--cfg-options', REVERSED) == 1
        assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    for checkpoint in (run / 'iter_1.pth', file):
        assert run_test(student_config, checkpoint, '--cfg-options', REVERSED) == 1
        assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_a_checkpoint_says_which_class_weight_it_was_trained_with(caplog):
    words = load_vocabulary(['cat', 'dog'])
    own = dict(
        tau=0.5, mean_similarity='/there/usual.npy', text=dict(file='rows.pth'), keep=['cat']
    )
    model = dict(type='MaskClipPlus', vocabulary=['cat', 'dog'], class_weight=own)
    described = dict(model=model, pipeline=[], training={}, metrics={})
    meta = dict(student=json.dumps(described))
    weight = dict(type='ClassWeight', tau=0.5, text=dict(file='x'), keep=('cat',))
    require_same_training('a.pth', meta, words, dict(weight, mean_similarity='/here/usual.npy'))
    assert not caplog.records
    require_same_training('a.pth', meta, words, dict(weight, tau=None))
    assert caplog.records[-1].getMessage().endswith('tau=None (trained with 0.5)')
    caplog.clear()
    require_same_training('old.pth', {}, words, dict(tau=1.0))  # of the original: it does not say
    assert not caplog.records


def test_a_run_with_an_average_is_not_resumed_without_it(student_config, tmp_path, capsys):
    run = tmp_path / 'run'
    options = ['--work-dir', run, '--cfg-options', 'train_cfg.max_iters=2']
    assert run_train(student_config, *options, 'model.ema_momentum=0.1') == 0
    options[-1] = 'train_cfg.max_iters=4'
    assert run_train(student_config, '--resume', *options) == 1
    assert 'trained with a running average' in capsys.readouterr().err.splitlines()[-1]
    assert run_train(student_config, '--resume', *options, 'model.ema_momentum=0.1') == 0
