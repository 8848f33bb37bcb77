"""The fast ways of a training step against PyTorch's own words, and one recipe on any machines."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from forked import run_group
from mmengine.config import Config
from test_train import losses, run_train, student_config  # noqa: F401  a fixture
from test_train import weights as weights_of
from torch import nn

from mmseg import kernels
from mmseg.engine import WeightedOptimWrapper, accumulate_gradients, keep_freed_memory, train_hooks
from mmseg.models import (
    ASPPHeadV2,
    SegformerHead,
    TextClassifier,
    build_timm_backbone,
    fill_unlabeled,
)
from mmseg.models.backbones import MixVisionTransformer
from mmseg.models.losses import cross_entropy, plain_cross_entropy
from mmseg.structures import SegDataSample, ignore_label

IGNORE = ignore_label(5)

# Whoever starts a group checks first that its processes, in two parts each, train one linear layer
# on rows that count unequally to the weights of one process with whole batches.
SCRIPT = """
import torch
import torch.distributed as dist
from torch import nn
from mmseg.apis.command_lines import run_train as main
from mmseg.engine import WeightedOptimWrapper

class Line(nn.Linear):
    def forward(self, rows, pixels):
        losses = (super().forward(rows)[:, 0] - 1) ** 2 * pixels
        self.loss_pixels = pixels.sum()
        if dist.is_initialized():
            dist.all_reduce(self.loss_pixels)
            self.loss_pixels /= dist.get_world_size()
        return losses.sum() / self.loss_pixels

def trained(rank, processes, parts):
    torch.manual_seed(0)
    rows, pixels = torch.randn(8, 3), torch.tensor([1.0, 5, 2, 0, 3, 9, 4, 1])
    rows, pixels, line = rows[rank::processes], pixels[rank::processes], Line(3, 1)
    model = nn.parallel.DistributedDataParallel(line) if processes > 1 else line
    optimizer = torch.optim.SGD(line.parameters(), lr=0.1, momentum=0.9)
    wrapper = WeightedOptimWrapper(optimizer, accumulative_counts=parts)
    wrapper.initialize_count_status(line, 0, 3 * parts)
    for _ in range(3):
        for part in zip(rows.chunk(parts), pixels.chunk(parts)):
            with wrapper.optim_context(model):
                loss = model(*part)
            wrapper.update_params(loss)
    return torch.cat([p.detach().flatten() for p in line.parameters()])

def init_and_check(*args, init=dist.init_process_group):
    init(*args)
    if dist.get_world_size() > 1:
        found = trained(dist.get_rank(), dist.get_world_size(), parts=2)
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
        print('parts checked')

whole = trained(0, 1, parts=1)
dist.init_process_group = init_and_check
nn.BatchNorm2d.train = lambda self, mode=True: nn.Module.train(self, False)
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
    assert (fill_unlabeled(target, scores)[0] == full.argmax(dim=1)).float().mean() > 0.999
    sure, label = (3 * full[:, [1, 4]]).softmax(dim=1).max(dim=1)
    label = torch.tensor([1, 4])[label].where(sure >= 0.8, -1)
    found, _ = fill_unlabeled(target, scores, [1, 4], threshold=0.8, scale=3.0)
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
model = dict(distill_weight=0.5, backbone=dict(pretrained=None, drop_path=0.0),
    decode_head=dict(dropout=0.0))
unseen = 'all'
train_dataloader = dict(batch_size=4, dataset=dict(ann_dir='SegmentationClass',
    reduce_zero_label=True, pipeline=[dict(type='LoadImage'),
    dict(type='LoadAnnotations', suppress_labels='unseen'),
    dict(type='RandomResize', scale=(200, 200), ratio_range=(0.9, 1.1)),
    dict(type='RandomCrop', size=48), dict(type='RandomFlip'), dict(type='PackSegInputs')]))
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
param_scheduler = []
default_hooks = dict(checkpoint=dict(interval=20))
train_cfg = dict(max_iters=20)
"""


@pytest.fixture
def recipe(student_config):  # noqa: F811
    """A student whose crops have one size, but unequal void, and whose steps draw nothing."""
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


@pytest.mark.parametrize('pixels, mean', [((1.0, 1e-6, 3.0), 3.5), (None, 2.0)])
def test_parts_of_a_batch_weigh_by_their_pixels(pixels, mean):
    """Sums of 2, 0 and 12 over 1, no and 3 pixels; or 2, 0 and 4 of parts that count alike."""
    weight = nn.Parameter(torch.zeros(()))
    wrapper = WeightedOptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=3)
    for step in (1, 2):
        for i, value in enumerate((2.0, 0.0, 4.0)):
            model = SimpleNamespace(**({} if pixels is None else dict(loss_pixels=pixels[i])))
            with wrapper.optim_context(model):
                wrapper.update_params(value * weight)
        assert weight.item() == pytest.approx(-step * mean, rel=1e-5)


def test_two_processes_are_one_with_the_whole_batch(recipe, tmp_path):
    """Also in parts. Batch norm keeps its statistics here: gloo has no SyncBatchNorm."""
    runs = [train_with(recipe, tmp_path / str(n), n, batch=4 // n) for n in (1, 2)]
    assert len(runs[0]) == len(runs[1]) == 20
    assert runs[0] == pytest.approx(runs[1], abs=1e-4)
    assert runs[0][-1] < runs[0][0]


def train_with(config, folder, processes, *, batch):
    """-> the losses that the run logged, the mean over its processes"""
    start = folder.with_suffix('.py')
    start.write_text(SCRIPT)
    arguments = ['--work-dir', folder, '--cfg-options', f'train_dataloader.batch_size={batch}']
    out = folder.with_suffix('.txt')
    codes, printed = run_group(start, config, *arguments, out=out, processes=processes)
    assert codes == [0] * processes, printed
    assert printed.count('parts checked') == (processes if processes > 1 else 0)
    return losses(folder)


def test_a_compiled_student_trains(student_config, tmp_path):  # noqa: F811
    """As one graph, which runs as it is here ('eager'): losses are the plain run's."""
    plain, compiled = tmp_path / 'plain', tmp_path / 'compiled'
    options = ['--cfg-options', 'train_cfg.max_iters=2']
    assert run_train(student_config, '--work-dir', plain, *options) == 0
    options += ['compile.backend=eager', 'compile.fullgraph=True']
    assert run_train(student_config, '--work-dir', compiled, *options) == 0
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)


def test_a_compiled_deeplab_is_one_graph():
    backbone = build_timm_backbone('resnet10t', pretrained=False, output_stride=8)
    rows = F.normalize(torch.randn(5, 16), dim=-1)
    text = TextClassifier(rows, normalize=False, persistent=True)
    head, image = ASPPHeadV2(backbone.channels, 16, text), torch.rand(2, 3, 64, 64)
    options = dict(backend='eager', fullgraph=True)
    features = torch.compile(backbone, **options)(image)
    assert torch.compile(head.forward_features, **options)(features).shape == (2, 16, 8, 8)


def test_losses_are_read_when_they_are_logged(student_config, tmp_path, monkeypatch):  # noqa: F811
    """Six iterations, a line at 2, 3 and 6: the values are read together, for each line."""
    reads = []
    monkeypatch.setattr(train_hooks, 'all_reduce', lambda values, _: reads.append(len(values)))
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
