"""tools/train.py with every switch against wrong labels, and on labels from a folder."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script
from forked import run_group
from PIL import Image
from test_tools import run_test
from test_train import (
    losses,
    run_train,
    same,
    student_config,  # noqa: F401
    weights,
)

from mmseg.apis.publish import publish
from mmseg.datasets import LoadAnnotations, LoadImage, LoadPseudoLabels, PackSegInputs, SegDataset
from mmseg.datasets.transforms import RandomCrop
from mmseg.engine import load_config
from mmseg.engine.train_hooks import leaked_classes
from mmseg.models import MaskClipPlus, RobustLoss
from mmseg.utils.checkpoint import read_checkpoint
from mmseg.vocabularies import load_vocabulary


@pytest.fixture
def student(student_config):  # noqa: F811
    return student_config


ROBUST = [
    'model.robust_loss.confidence_power=1.0',
    'model.robust_loss.balance=0.5',
    'model.robust_loss.smoothing=0.1',
]
AVERAGE = [
    'model.start_clip_guided=(1,2)',
    'model.start_self_train=(3,-1)',
    'model.ema_momentum=0.1',
    'model.self_thresh=0.34',
]


def write_labels(tiny_config, photos, out, *options):
    return run_script('pseudo_label', tiny_config, photos / 'JPEGImages', '--out', out, *options)


@pytest.fixture
def label_folder(tiny_config, photos, tmp_path):
    """Labels with confidence of three views and their mirror images."""
    options = ['--scales', 0.75, 1, 1.25, '--flip', '--confidence']
    assert write_labels(tiny_config, photos, tmp_path / 'labels', *options) == 0
    return tmp_path / 'labels'


def test_resumed_with_every_switch_on_it_ends_in_the_same_bits(student, tmp_path, label_folder):
    options = ['--cfg-options', 'train_cfg.max_iters=4', *ROBUST, *AVERAGE]
    options.append(f'pseudo_labels={label_folder}')
    (tmp_path / 'clip.json').unlink()  # no tower is built, no text is computed
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert run_train(student, '--work-dir', whole, *options) == 0
    cut.mkdir()
    shutil.copy(whole / 'iter_2.pth', cut)
    assert run_train(student, '--work-dir', cut, '--resume', *options) == 0
    expected, found = (read_checkpoint(folder / 'iter_4.pth') for folder in (whole, cut))
    for part in ('state_dict', 'ema_state_dict'):
        assert same(expected[part], found[part])
    state = expected['state_dict']
    assert state['robust_loss.balance.class_shares'].sum() > 0
    assert not any('teacher' in name or 'average' in name for name in state)
    assert not same(state, {k: expected['ema_state_dict'][f'module.{k}'] for k in state})


def test_checkpoints_of_both_kinds_are_read_by_both(student, tmp_path):
    plain, robust = tmp_path / 'plain', tmp_path / 'robust'
    short = ['--cfg-options', 'train_cfg.max_iters=1']
    assert run_train(student, '--work-dir', plain, *short) == 0
    assert 'robust_loss.balance.class_shares' not in weights(plain, 1)
    start = ['--load-from', plain / 'iter_1.pth']
    assert run_train(student, '--work-dir', robust, *start, *short, *ROBUST) == 0
    assert weights(robust, 1)['robust_loss.balance.class_shares'].sum() == pytest.approx(1)
    publish(load_config(student), robust / 'iter_1.pth', tmp_path / 'x.safetensors')
    for checkpoint, options in (
        (robust / 'iter_1.pth', []),
        (plain / 'iter_1.pth', ['--cfg-options', *ROBUST]),
        (tmp_path / 'x.safetensors', []),
    ):
        assert run_test(student, checkpoint, '--work-dir', tmp_path / 'test', *options) == 0


def test_processes_count_classes_together(student, tmp_path):
    """Two processes with a photo each see the classes that one with two photos sees."""
    options = [
        'model.robust_loss.balance=0.5',
        'train_cfg.max_iters=2',
        'model.start_clip_guided=(1,-1)',
    ]
    options += ['train_dataloader.dataset.pipeline.2.ratio_range=(1.0,1.0)']
    options += ['train_dataloader.dataset.pipeline.3.size=40']  # no padding in a batch
    alone, both = tmp_path / 'alone', tmp_path / 'both'
    assert run_train(student, '--work-dir', alone, '--cfg-options', *options) == 0
    arguments = ['--work-dir', both, '--cfg-options', *options, 'train_dataloader.batch_size=1']
    codes, printed = run_group('train.py', student, *arguments, out=tmp_path / 'printed')
    assert codes == [0, 0], printed
    seen = [weights(folder, 2)['robust_loss.balance.class_shares'] for folder in (alone, both)]
    assert (seen[0] > 0).sum() > 1
    torch.testing.assert_close(seen[0], seen[1])


def test_agreement_picks_a_checkpoint_without_masks(student, photos, tmp_path, capsys):
    with student.open('a') as file:
        file.write("""
val_dataloader, val_cfg = test_dataloader, dict()
val_dataloader['dataset'] = dict(val_dataloader['dataset'], ann_dir=None)
val_evaluator = dict(type='AgreementMetric')
train_cfg = dict(max_iters=4, val_interval=2)
default_hooks = dict(checkpoint=dict(save_best='agreement'))
""")
    shutil.rmtree(photos / 'SegmentationClass')
    assert run_train(student, '--work-dir', tmp_path / 'run') == 0
    assert len(list((tmp_path / 'run').glob('best_agreement_iter_*.pth'))) == 1
    assert capsys.readouterr().out.count('agreement 0.') == 2


def test_agreement_with_labels_of_a_folder(student, photos, label_folder, tmp_path, capsys):
    with student.open('a') as file:
        file.write("""
val_dataloader, val_cfg = test_dataloader, dict()
val_evaluator = dict(type='AgreementMetric')
train_cfg = dict(max_iters=1, val_interval=1)
""")
    arguments = ['--work-dir', tmp_path / 'run', '--cfg-options', f'pseudo_labels={label_folder}']
    assert run_train(student, *arguments) == 1
    assert 'name val_dataloader.dataset.pseudo_labels' in capsys.readouterr().err
    arguments.append(f'val_dataloader.dataset.pseudo_labels={label_folder}')
    assert run_train(student, *arguments) == 0
    assert 'agreement 0.' in capsys.readouterr().out


def test_labels_of_a_folder_train_as_the_same_labels_of_a_teacher(tmp_path):
    """Unflipped scenes, one view: the teacher sees what it saw when it wrote the labels."""
    miniature = ROOT / 'configs' / 'miniature'
    (tmp_path / 'few.py').write_text(f"""
_base_ = '{miniature}/maskclip_plus_vit_segformer_b0.py'
teacher = '{miniature}/maskclip_vit.py'
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(scenes=6, pipeline=[dict(type='RenderScene', masks=False), dict(type='Unlabeled'),
        dict(type='RandomFlip', prob=0.0), dict(type='PackSegInputs')]))
train_cfg = dict(max_iters=2)
log_processor = dict(window_size=1)
default_hooks = dict(logger=dict(interval=1))
""")
    options = ['--photos-of', tmp_path / 'few.py', '--out', tmp_path / 'labels', '--confidence']
    assert run_script('pseudo_label', miniature / 'maskclip_vit.py', *options) == 0
    assert len(list((tmp_path / 'labels' / '2').glob('*.conf.png'))) == 6
    run, found = [tmp_path / 'few.py', '--no-validate', '--work-dir'], []
    assert run_train(*run, tmp_path / 'start') == 0
    for i, folder in enumerate(([], [f'pseudo_labels={tmp_path / "labels"}'])):
        options = ['--load-from', tmp_path / 'start' / 'latest.pth', '--cfg-options', *folder]
        options.append('model.robust_loss.confidence_power=1.0')
        assert run_train(*run, tmp_path / f'{i}', *options) == 0
        found.append(losses(tmp_path / f'{i}'))
    assert found[0] == pytest.approx(found[1], abs=2e-3)


def test_folders_that_do_not_fit(student, label_folder, tmp_path, capsys):
    def error(folder, *options):
        arguments = ['--work-dir', tmp_path / 'run', '--cfg-options', f'pseudo_labels={folder}']
        assert run_train(student, *arguments, *options) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    distil = error(label_folder, 'model.distill_weight=0.5')
    assert 'distill_weight needs the teacher itself' in distil
    assert 'nowhere holds no labels of tools/pseudo_label.py' in error(tmp_path / 'nowhere')
    (label_folder / 'p3.png').unlink()
    assert re.search('lacks the labels of 1 photos, such as .*p3.png', error(label_folder))
    record = json.loads((label_folder / 'labels.json').read_text())
    record['classes'][1:] = record['classes'][:0:-1]
    (label_folder / 'labels.json').write_text(json.dumps(record))
    words = "are of another vocabulary: class 1 is 'sky', in .* 'dog"
    assert re.search(words, error(label_folder))


def test_labels_without_confidence_where_it_is_needed(
    student, tiny_config, photos, label_folder, tmp_path, capsys
):
    def error(folder, *options):
        options = [f'pseudo_labels={folder}', 'train_cfg.max_iters=1', *options]
        code = run_train(student, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
        return capsys.readouterr().err.strip().splitlines()[-1] if code else ''

    bare = tmp_path / 'bare'
    assert write_labels(tiny_config, photos, bare) == 0
    for option in ('conf_thresh=0.5', 'robust_loss.confidence_power=1.0'):
        words = f'error: {bare} holds labels without confidence'
        assert error(bare, f'model.{option}').startswith(words)
    (label_folder / 'p3.conf.png').unlink()
    words = r'1 labels of .* lack their .conf.png, such as those of .*p3.png; remove these'
    assert re.search(words, error(label_folder, 'model.conf_thresh=0.5'))
    assert error(bare, 'model.robust_loss.balance=0.5') == ''


def test_photos_of_a_config(student, tiny_config, tmp_path, capsys):
    """Only those to train on, in the places where training looks for them."""
    out = tmp_path / 'labels'
    assert run_script('pseudo_label', tiny_config, '--photos-of', student, '--out', out) == 0
    assert sorted(path.name for path in out.glob('*.png')) == [f'p{i}.png' for i in range(5)]
    arguments = ['--photos-of', student, '--set', 'val', '--out', out]
    assert run_script('pseudo_label', tiny_config, *arguments) == 1
    assert 'student.py has no val_dataloader' in capsys.readouterr().err
    options = ['--cfg-options', f'pseudo_labels={out}', 'train_cfg.max_iters=1']
    assert run_train(student, '--work-dir', tmp_path / 'run', *options) == 0


MANY = 'pascal_context_459'


@pytest.fixture
def many_classes(photos):
    """Photos with classes 255 and 0, void, and 7 unseen, which a teacher calls 300 or nothing."""
    folders = [photos / 'SegmentationClass', photos / 'labels']
    folders[1].mkdir()
    for path in folders[0].glob('*.png'):
        ids, labels = (np.zeros(Image.open(path).size[::-1], np.uint16) for _ in range(2))
        ids[:30], ids[30:40], ids[40:50], labels[:], labels[:, 25:] = 256, 8, 1, 65535, 300
        for values, folder in zip((ids, labels), folders):
            Image.fromarray(values).save(folder / path.name)
    classes = load_vocabulary(MANY).labels
    (folders[1] / 'labels.json').write_text(json.dumps(dict(classes=classes)))
    options = dict(img_dir='JPEGImages', ann_dir='SegmentationClass', reduce_zero_label=True)
    options |= dict(split='ImageSets/val.txt', pseudo_labels=folders[1], unseen=[classes[7]])
    steps = [LoadImage(), LoadAnnotations('unseen'), LoadPseudoLabels(), RandomCrop(56, 0.75)]
    return SegDataset(MANY, str(photos), pipeline=[*steps, PackSegInputs()], **options)


class Colours(torch.nn.Conv2d):
    """A decode head that classifies each pixel by its colour."""

    def __init__(self, classes):
        super().__init__(3, classes, 1)

    def forward_features(self, image):
        return image

    classify = torch.nn.Conv2d.forward


def test_a_student_of_459_classes_trains(many_classes):
    """Class 255 is learned, 65535 is not: by all that a target passes on its way."""
    options = dict(mean=(0.5,) * 3, std=(0.2,) * 3, pad_to=64)
    loss = RobustLoss(459, balance=0.5, balance_memory=0.0)
    model = MaskClipPlus(torch.nn.Identity(), Colours(459), None, None, None, loss, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    batch, found = [many_classes[i] for i in range(4)], []
    images, samples = ([item[key] for item in batch] for key in ('inputs', 'data_samples'))
    assert not any(leaked_classes(sample.gt_sem_seg, [7]) for sample in samples)
    for step in (1, 2):
        optimizer.zero_grad()
        losses = model.loss(images, samples, step=step)
        losses['loss_ce'].backward()
        optimizer.step()
        found.append(losses['loss_ce'].item())
    assert found[1] < found[0] and np.isfinite(found).all()
    expected = torch.zeros(459)
    for sample in samples:
        target = sample.gt_sem_seg.where(sample.gt_sem_seg != -1, sample.pseudo_sem_seg).long()
        expected += torch.bincount(target[target != 65535], minlength=459)
    assert expected.nonzero().flatten().tolist() == [0, 255, 300]
    torch.testing.assert_close(loss.balance.class_shares, expected / expected.sum())
