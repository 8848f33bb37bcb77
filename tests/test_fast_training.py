"""The fast ways of a training step against PyTorch's own words, and one recipe on any machines."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, group_environment
from mmengine.config import Config
from test_train import losses, run_train, student_config  # noqa: F401  a fixture
from test_train import weights as weights_of
from torch import nn

from mmseg import kernels
from mmseg.engine import accumulate_gradients, keep_freed_memory, late_info
from mmseg.models import SegformerHead, fill_unlabeled
from mmseg.models.backbones import MixVisionTransformer
from mmseg.models.resized import cross_entropy, plain_cross_entropy
from mmseg.structures import SegDataSample, ignore_label

IGNORE = ignore_label(5)

SCRIPT = """
from torch import nn
nn.BatchNorm2d.train = lambda self, mode=True: nn.Module.train(self, False)
from mmseg.apis.train import main
main()
"""


@pytest.mark.parametrize('cells, size', [((7, 9), (33, 50)), ((5, 4), (5, 4)), ((12, 8), (6, 5))])
def test_cross_entropy_in_slabs(cells, size):
    torch.manual_seed(0)
    scores = (4 * torch.randn(2, 5, *cells)).requires_grad_()
    target = torch.randint(0, 5, (2, *size))
    target[0, :3], target[1, :, 2] = IGNORE, IGNORE
    found, right = cross_entropy(scores, target)
    (own,) = torch.autograd.grad(found * 0.5, scores)
    resized = F.interpolate(scores, size, mode='bilinear', align_corners=False)
    expected = F.cross_entropy(resized, target, ignore_index=IGNORE, reduction='sum')
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own, torch.autograd.grad(expected * 0.5, scores)[0])
    assert right == ((resized.argmax(dim=1) == target) & (target != IGNORE)).sum()
    torch.testing.assert_close(plain_cross_entropy(scores, target)[0], expected)


@pytest.mark.parametrize('compute', [cross_entropy, plain_cross_entropy])
def test_class_255_is_learned_where_there_are_more(compute):
    torch.manual_seed(0)
    scores = torch.randn(1, 300, 2, 3, requires_grad=True)
    target = torch.tensor([[[255, 65535, 0], [299, 255, 65535]]])
    loss, _ = compute(scores, target)
    expected = F.cross_entropy(scores, target, ignore_index=65535, reduction='sum')
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(one, scores)[0] for one in (loss, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('switches', [{}, dict(smoothing=0.2), dict(gce=0.7)])
def test_weighted_losses_in_slabs(switches):
    """PyTorch's own words and its gradients are the referee; the student's robust losses."""
    torch.manual_seed(0)
    scores = (4 * torch.randn(2, 5, 7, 9)).requires_grad_()
    target, weight = torch.randint(0, 5, (2, 33, 50)), torch.rand(2, 33, 50)
    target[0, :3] = IGNORE
    found, right = cross_entropy(scores, target, weight, **switches)
    expected, truly_right = plain_cross_entropy(scores, target, weight, **switches)
    torch.testing.assert_close(found, expected)
    assert right == truly_right
    gradients = [torch.autograd.grad(loss * 0.5, scores)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_nothing_labelled_has_no_gradient():
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss, right = cross_entropy(scores, torch.full((1, 8, 8), IGNORE))
    loss.backward()
    assert loss == 0 and right == 0 and not scores.grad.any()


def test_pseudo_labels_in_slabs():
    torch.manual_seed(0)
    scores, target = torch.randn(2, 6, 5, 7), torch.full((2, 40, 50), -1)
    full = F.interpolate(scores, (40, 50), mode='bilinear', align_corners=False)
    assert (fill_unlabeled(target, scores) == full.argmax(dim=1)).float().mean() > 0.999
    sure, label = (3 * full[:, [1, 4]]).softmax(dim=1).max(dim=1)
    label = torch.tensor([1, 4])[label].where(sure >= 0.8, -1)
    found = fill_unlabeled(target, scores, [1, 4], threshold=0.8, scale=3.0)
    assert (found == label).float().mean() > 0.999 and (found == -1).any()


def test_segformer_and_its_head_are_those_of_plain_pytorch():
    """Forward and backward, batch norm in training, with `kernels.plain` as the referee."""
    torch.manual_seed(0)
    body = MixVisionTransformer('b0', drop_path=0.0)
    head = SegformerHead(body.channels, 24, nn.Conv2d(24, 5, 1), dropout=0.0)
    image = torch.randn(2, 3, 64, 96)

    def run():
        body.zero_grad(), head.zero_grad()
        scores = head(body(image))
        scores.square().sum().backward()
        grads = {n: p.grad.clone() for m in (body, head) for n, p in m.named_parameters()}
        return scores.detach(), grads

    scores, grads = run()
    with kernels.plain():
        expected, expected_grads = run()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    for name, grad in grads.items():
        wrong = (grad - expected_grads[name]).norm()
        assert wrong <= 1e-3 * expected_grads[name].norm() + 1e-3, name


def test_keeping_memory_changes_no_number():
    for keep in (True, False):
        keep_freed_memory(keep)
        assert torch.ones(1 << 22).sum() == 1 << 22


def test_a_sample_without_an_accelerator_copies_its_fields():
    sample = SegDataSample(metainfo=dict(img_path='a.jpg'))
    sample.gt_sem_seg = torch.arange(4)
    moved = sample.to('cpu', non_blocking=True)
    assert moved.img_path == 'a.jpg' and torch.equal(moved.gt_sem_seg, sample.gt_sem_seg)


# One recipe on any machines

FIXED = """
model = dict(loss_over='all', backbone=dict(pretrained=None, drop_path=0.0),
    decode_head=dict(dropout=0.0))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=[dict(type='LoadImage'),
    dict(type='Unlabeled'), dict(type='RandomResize', scale=(200, 200), ratio_range=(0.9, 1.1)),
    dict(type='RandomCrop', size=48), dict(type='RandomFlip'), dict(type='PackSegInputs')]))
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
param_scheduler = []
default_hooks = dict(checkpoint=dict(interval=20))
train_cfg = dict(max_iters=20)
"""


@pytest.fixture
def recipe(student_config):  # noqa: F811
    """A student whose crops have one size and whose steps draw nothing at random."""
    path = student_config.with_name('recipe.py')
    path.write_text(f"_base_ = './{student_config.name}'\nteacher = 'tiny.py'\n{FIXED}")
    return path


def test_accumulated_gradients_are_those_of_the_whole_batch(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        nn.BatchNorm2d, 'train', lambda self, mode=True: nn.Module.train(self, False)
    )
    options = ['--cfg-options', 'train_cfg.max_iters=3', 'default_hooks.checkpoint.interval=3']
    assert run_train(recipe, '--work-dir', tmp_path / 'whole', *options) == 0
    assert run_train(recipe, '--work-dir', tmp_path / 'parts', '--accumulate', 2, *options) == 0
    whole, parts = weights_of(tmp_path / 'whole', 3), weights_of(tmp_path / 'parts', 3)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-5, atol=1e-5)


def test_two_processes_are_one_with_the_whole_batch(recipe, tmp_path):
    """Batch norm keeps its statistics here: gloo has no SyncBatchNorm."""
    runs = [train_with(recipe, tmp_path / str(n), n, batch=4 // n) for n in (1, 2)]
    assert len(runs[0]) == len(runs[1]) == 20
    assert runs[0] == pytest.approx(runs[1], abs=1e-4)
    assert runs[0][-1] < runs[0][0]


def train_with(config, folder, processes, *, batch):
    """-> the losses that the run logged, the mean over its processes"""
    start = folder.with_suffix('.py')
    start.write_text(SCRIPT)
    environment = group_environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    command = [sys.executable, '-m', 'torch.distributed.run']
    command += ['--master-port', environment['PORT']]
    command += [f'--nproc-per-node={processes}', start, config, '--work-dir', folder]
    command += ['--device', 'cpu', '--launcher', 'pytorch']
    command += ['--cfg-options', f'train_dataloader.batch_size={batch}']
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return losses(folder)


def test_a_compiled_student_trains(student_config, tmp_path):  # noqa: F811
    """What the compiler is given runs as it is here ('eager'): losses are the plain run's."""
    plain, compiled = tmp_path / 'plain', tmp_path / 'compiled'
    options = ['--cfg-options', 'train_cfg.max_iters=2']
    assert run_train(student_config, '--work-dir', plain, *options) == 0
    options += ['compile.backend=eager']
    assert run_train(student_config, '--work-dir', compiled, *options) == 0
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)


def test_losses_are_read_when_they_are_logged(student_config, tmp_path, monkeypatch):  # noqa: F811
    """Six iterations, a line at 2, 3 and 6: the values are read together, for each line."""
    reads, own = [], torch.stack

    def stack(rows):
        reads.append(len(rows))
        return own(rows)

    monkeypatch.setattr(late_info, 'torch', SimpleNamespace(stack=stack, is_tensor=torch.is_tensor))
    options = ['--cfg-options', 'default_hooks.logger.interval=3']
    assert run_train(student_config, '--work-dir', tmp_path / 'run', *options) == 0
    assert len(losses(tmp_path / 'run')) == 3  # an epoch of the five photos ends at 2
    assert reads == [6, 3, 9]  # loss, loss_ce and acc_seg


def test_the_memory_of_class_balance_is_that_of_whole_batches():
    config = Config(dict(train_dataloader=dict(batch_size=8), train_cfg=dict(max_iters=5)))
    config.model = dict(robust_loss=dict(balance=0.5))
    accumulate_gradients(config, 4)
    assert config.model.robust_loss.balance_memory**4 == pytest.approx(0.99)
    assert config.train_cfg == dict(max_iters=5, parts=4)
    assert config.train_dataloader.batch_size == 8
