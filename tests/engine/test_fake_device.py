"""No step waits for a GPU but where a reason says so; on a GPU that is not there."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fake_device import DEVICE, Small, batch, fake_gpu, optimizer_of
from mmengine.logging import MessageHub
from test_readouts import MEAN, STD, tiny_proxy

from mmseg.clip import CLIPDenseExtractor
from mmseg.clip.readout import PRESETS, readout_of
from mmseg.engine import (
    AverageStudentHook,
    DeferredLoggingHook,
    NonFiniteLossHook,
    TrainProgressHook,
)
from mmseg.engine.hooks import FiniteScoresHook
from mmseg.engine.train_loop import StreamTrainLoop
from mmseg.evaluation import AgreementMetric, IoUMetric
from mmseg.labelling.labeller import mean_probabilities
from mmseg.models import (
    PAMR,
    ASPPHeadV2,
    ClassWeight,
    ClipPretraining,
    DepthwiseSeparableASPPHead,
    MaskClip,
    MaskClipHead,
    MaskClipPlus,
    MaskedAutoencoder,
    RobustLoss,
    Scoring,
    SegformerHead,
    TextClassifier,
    Windows,
    build_timm_backbone,
)
from mmseg.models.backbones import MixVisionTransformer
from mmseg.models.engines import Engine
from mmseg.structures import SegDataSample

PERMITTED = {
    'evaluation/metric.py:reduce': 'the counts of all photos, once, after the last',
    'engine/hooks.py:after_test_epoch': 'are the scores finite? once, after the last photo',
    'engine/train_hooks.py:_read': 'losses where they are logged, all at once',
    'engine/train_hooks.py:_check': 'losses, every 10 iterations: are they finite?',
    'engine/train_hooks.py:_note': 'the progress line, every 10 iterations',
    # Clipping gradients logs their norm; no student of the configs clips.
    'mmengine/optim/optimizer/optimizer_wrapper.py:_clip_grad': 'the norm of the gradients',
}
CLASSES, DIM = 5, 32
SYNONYMS = (0, 1, 1, 2, 3)


@pytest.fixture
def gpu():
    with fake_gpu() as gpu:
        yield gpu


def unit_rows(*shape):
    return F.normalize(torch.randn(*shape, generator=torch.manual_seed(0)), dim=-1)


@pytest.fixture(scope='module')
def visual(tiny_clip):
    return tiny_clip('vit').model.visual


@pytest.fixture
def maskclip(gpu, visual):
    """Settings of a MaskClip, of its head and its class weight -> it, tiny, on the fake GPU"""

    def make(readout='maskclip', head={}, weight=None, **options):  # noqa: B006
        readout, text = readout_of(readout), unit_rows(CLASSES, DIM)
        proxy = tiny_proxy() if 'proxy' in readout.terms else None
        if weight is not None:
            weight = dict(weight)
            weight = ClassWeight(text, None, weight.pop('groups', None), **weight)
        backbone = CLIPDenseExtractor(
            copy.deepcopy(visual), mean=MEAN, std=STD, readout=readout, proxy=proxy
        )
        head = MaskClipHead(TextClassifier(text, normalize=True), **head)
        return gpu.move(MaskClip(backbone, head, weight, **options))

    return make


WAITS = {
    'a value': lambda x: float(x.sum()),
    'a condition': lambda x: bool(x.sum() > 0),
    'to the host': lambda x: x.cpu(),
    'from the host': lambda x: torch.zeros(3).to(DEVICE),
    'copied from the host': lambda x: x.copy_(torch.zeros(3)),
    'a list': lambda x: torch.tensor([1, 2], device=DEVICE),
    'a number': lambda x: x.new_tensor(1.0),
    'at a list of places': lambda x: x[[0, 1]],
    'into a list of places': lambda x: x.index_put_([torch.tensor([0, 1])], x[0]),
    'into a place': lambda x: x.__setitem__(0, 1.0),
    'unique values': lambda x: torch.isin(x, x[:1]),
}
NO_WAITS = {
    'sent': lambda x: torch.zeros(3).to(DEVICE, non_blocking=True),
    'read later': lambda x: x.to('cpu', non_blocking=True),
    'where': lambda x: x.where(x > 0, 1.0),
    'a place': lambda x: x[0].fill_(1.0),
    'a mask to fill': lambda x: x.__setitem__(x > 0, 1.0),
}


@pytest.mark.parametrize('kind', [*WAITS, *NO_WAITS])
def test_what_waits(gpu, kind):
    x = gpu.run(lambda: torch.zeros(3, device=DEVICE))
    assert len(gpu.waits(WAITS.get(kind) or NO_WAITS[kind], x)) == (kind in WAITS)


@pytest.mark.parametrize('step', [lambda x: x[x > 0], lambda x: x.nonzero(), torch.bincount])
def test_what_depends_on_values_has_no_shape(gpu, step):
    x = gpu.run(lambda: torch.zeros(3, dtype=torch.int64, device=DEVICE))
    with pytest.raises(AssertionError, match='a shape depends on values'):
        gpu.waits(step, x)


def test_two_devices_in_one_operation_raise(gpu):
    with pytest.raises(RuntimeError, match='same device'):
        gpu.run(lambda: torch.zeros(3, device=DEVICE) + torch.zeros(3))


WINDOWS = dict(windows=Windows(32, 16))
BACKGROUND = dict(background=0, prob_thd=0.3)
KINDS = {
    'whole': {},
    'as published': dict(resize_twice=True, head=dict(pd_thresh=0.5, ks_thresh=1.0)),
    'windows': WINDOWS,
    'windows, denoised': dict(**WINDOWS, head=dict(pd_thresh=0.5)),
    'windows and synonyms': dict(**WINDOWS, scoring=Scoring(SYNONYMS)),
    'class weight': dict(weight=dict(tau=1.0)),
    'windows and class weight': dict(**WINDOWS, weight=dict(tau=1.0, crop='image')),
    'add': dict(weight=dict(tau=1.0, mode='add', crop='image')),
    'blend': dict(weight=dict(mode='blend')),
    'topk': dict(weight=dict(mode='topk', k=2, keep=(0, 3))),
    'topk of synonyms': dict(
        weight=dict(mode='topk', k=2, keep=(0,), groups=SYNONYMS), scoring=Scoring(SYNONYMS)
    ),
    'prob_thd': dict(scoring=Scoring(**BACKGROUND)),
    'area_thd': dict(scoring=Scoring(**BACKGROUND, area_thd=0.01)),
    'thresholds of synonyms': dict(scoring=Scoring(SYNONYMS, **BACKGROUND, area_thd=0.01)),
    'PAMR': dict(post=[PAMR(steps=1, dilations=(8,))]),
    **{name: dict(readout=name) for name in PRESETS if name != 'maskclip'},
}


@pytest.mark.parametrize('kind', KINDS)
def test_evaluation(gpu, maskclip, kind):
    model = maskclip(**KINDS[kind])

    def step(precision):
        Engine('torch', precision, 'cuda').install(model)
        with torch.no_grad():
            for sample in model.test_step(batch()):
                assert sample.pred_sem_seg.device == DEVICE
                assert sample.pred_sem_seg.shape == (75, 90)

    assert gpu.waits(step, 'fp32') == gpu.waits(step, 'fp16') == []


@pytest.mark.parametrize('kind', ['whole', 'thresholds of synonyms', 'windows and synonyms'])
def test_labels_with_their_probability(gpu, maskclip, kind):
    """What `segment` and tools/pseudo_label.py ask for, of one view and of several."""
    model = maskclip(**KINDS[kind])

    def step():
        with torch.inference_mode():
            images = [torch.zeros(3, 48, 64, device=DEVICE)]
            (maps,) = model.query_logits(images)
            for found in model.labels_and_confidence(maps, (75, 90), images[0]):
                assert found.shape == (75, 90) and found.device == DEVICE
            mean_probabilities(model, images, scales=(0.75, 1.0), flip=True)

    assert gpu.waits(step) == []


def test_counts_are_read_once(gpu):
    """IoU and agreement: a batch of photos waits for nothing, the end of all for the counts."""

    def sample():
        kinds = dict(gt_sem_seg=torch.int16, pseudo_sem_seg=torch.int16, pred_sem_seg=torch.uint8)
        return {name: torch.zeros(7, 9, dtype=kind, device=DEVICE) for name, kind in kinds.items()}

    for metric in (IoUMetric(), AgreementMetric()):
        metric.dataset_meta = dict(classes=list('abcde'), unseen=(1,))
        for _ in range(2):
            samples = gpu.run(lambda: [sample(), sample()])
            assert gpu.waits(metric.process, None, samples) == []
        with pytest.MonkeyPatch.context() as patch:  # what follows is of the host
            patch.setattr(metric, 'compute_metrics', lambda scores: scores)
            (wait,) = gpu.waits(metric.evaluate, 4)
        assert wait.function in PERMITTED and wait.operation == 'aten::_to_copy'


# Training


STUDENTS = {
    'small': lambda: (Small(), SegformerHead),
    'SegFormer': lambda: (MixVisionTransformer('b0'), SegformerHead),
    'DeepLabv2': lambda: (build_timm_backbone('resnet10t', pretrained=False), ASPPHeadV2),
    'DeepLabv3+': lambda: (
        build_timm_backbone('resnet10t', pretrained=False),
        DepthwiseSeparableASPPHead,
    ),
}
UNLABELLED = dict(gt_sem_seg=(None, torch.int64))
CACHED = dict(UNLABELLED, pseudo_sem_seg=(None, torch.uint8), pseudo_confidence=(None, torch.uint8))
SURE = dict(candidates=[1, 3], conf_thresh=0.5)
SELF = dict(start_clip_guided=(-1, -1), start_self_train=(1, -1), **SURE)


@pytest.fixture
def student(gpu, maskclip, visual):
    """Settings of a MaskClipPlus, its teacher's and its class weight's -> it, on the fake GPU"""

    def make(kind='small', teacher={}, robust=None, weight=None, learned=(), **options):  # noqa: B006
        backbone, head = STUDENTS[kind]()
        text = TextClassifier(
            unit_rows(CLASSES, DIM), normalize=False, persistent=True, learned=learned
        )
        if robust is not None:
            robust = RobustLoss(CLASSES, **robust)
        if weight is not None:
            encoder = CLIPDenseExtractor(copy.deepcopy(visual), mean=MEAN, std=STD)
            weight = ClassWeight(unit_rows(CLASSES, DIM), encoder, **weight)
        model = MaskClipPlus(
            backbone,
            head(backbone.channels, DIM, text),
            None if teacher is None else maskclip(**teacher),
            weight,
            options.pop('candidates', None),
            robust,
            mean=MEAN,
            std=STD,
            **options,
        )
        return gpu.move(model)

    return make


STEPS = {
    'SegFormer': dict(kind='SegFormer'),
    'DeepLabv2': dict(kind='DeepLabv2', loss_over='all'),
    'DeepLabv3+': dict(kind='DeepLabv3+'),
    'sure of some classes': SURE,
    'learned classes and distillation': dict(learned=[0], distill_weight=0.5),
    'teacher with windows and class weight': dict(
        teacher=dict(weight=dict(tau=1.0, crop='clip'), **WINDOWS)
    ),
    'teacher with synonyms': dict(teacher=dict(scoring=Scoring(SYNONYMS))),
    'class weight on the student': dict(weight=dict(tau=1.0)),
    'self-training': SELF,
    'running average': dict(**SELF, ema_momentum=0.1),
    'confidence and balance': dict(robust=dict(confidence_power=1.0, balance=0.5), **SURE),
    'self-training by confidence': dict(robust=dict(confidence_power=1.0), **SELF),
    'smoothing': dict(robust=dict(smoothing=0.1)),
    'gce': dict(robust=dict(gce=0.7)),
    'cached labels': dict(teacher=None, **SURE),
    'cached labels with confidence': dict(
        teacher=None, robust=dict(confidence_power=1.0, balance=0.5), **SURE
    ),
}


@pytest.mark.filterwarnings('ignore:Accessing the data pointer')  # in copying for the average
@pytest.mark.parametrize('kind', STEPS)
def test_training(gpu, student, kind):
    model = student(**STEPS[kind])
    runner = SimpleNamespace(model=model, iter=0, max_iters=9)
    hook = AverageStudentHook(momentum=0.1)
    fields = CACHED if 'cached' in kind else UNLABELLED
    if model.ema_momentum:
        gpu.run(hook.before_run, runner)

    def step(optimizer):
        model.train()
        losses = model.train_step(dict(batch(**fields), step=1), optimizer)
        if model.ema_momentum:
            hook.after_train_iter(runner, 0)
        assert all(loss.device == DEVICE for loss in losses.values())

    for amp in (False, True):
        assert gpu.waits(step, optimizer_of(model, amp)) == []


@pytest.mark.parametrize('amp', [False, True])
def test_training_on_a_batch_in_parts(gpu, student, amp):
    """Parts weighted by their pixels, and the mean of what they return."""
    model, seen = student(), []
    optimizer = optimizer_of(model, amp)
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=optimizer,
        call_hook=lambda place, outputs=None, **_: seen.append(outputs),
    )
    loop = SimpleNamespace(runner=runner, parts=2, _iter=0)
    optimizer._accumulative_counts = loop.parts
    optimizer.initialize_count_status(model, 0, 2)
    model.train()
    assert gpu.waits(StreamTrainLoop.run_iter, loop, batch(**UNLABELLED)) == []
    assert optimizer._inner_count == 2 and seen[-1]['loss'].device == DEVICE


def test_scores_are_looked_at_once_after_the_last_photo(gpu, maskclip):
    model, hook = maskclip(), FiniteScoresHook()
    hook.before_test_epoch(None)

    def step():
        with torch.no_grad():
            for _ in range(3):
                hook.after_test_iter(None, 0, outputs=model.test_step(batch()))

    assert gpu.waits(step) == []
    with pytest.MonkeyPatch.context() as patch:  # what follows is of the host
        patch.setattr('mmseg.engine.hooks.require_finite_scores', lambda total, photo: None)
        (wait,) = gpu.waits(hook.after_test_epoch, None)
    assert wait.function in PERMITTED and len(hook.totals) == 6


def test_a_student_is_tested(gpu, student):
    """With its class weight, and beside its teacher's labels for the agreement."""
    model = student(weight=dict(tau=1.0), teacher_at_validation=True).eval()

    def step():
        with torch.no_grad():
            for sample in model.val_step(batch()):
                assert sample.pred_sem_seg.shape == sample.pseudo_sem_seg.shape

    assert gpu.waits(step) == []


def test_losses_are_read_every_ten_iterations(gpu, tmp_path):
    """By the log, the progress line and the look for NaN, of eleven iterations."""
    late, finite, line = DeferredLoggingHook(), NonFiniteLossHook(), TrainProgressHook()
    late.waiting, late.interval = [], 10
    line.bar = SimpleNamespace(update=lambda _: None)
    runner = SimpleNamespace(max_iters=99, train_dataloader=[None] * 100, cfg={}, work_dir=tmp_path)
    runner.message_hub = MessageHub.get_instance('fake device')
    data = dict(data_samples=[SegDataSample(metainfo=dict(img_path='a.jpg'))])
    found = []
    for i in range(11):
        runner.iter = i
        outputs = gpu.run(lambda: dict(loss=torch.zeros((), device=DEVICE)))
        for hook in (late, finite, line):
            waits = gpu.waits(hook.after_train_iter, runner, i, data, outputs)
            found += sorted({(i, wait.function) for wait in waits})
    assert all(function in PERMITTED for _, function in found)
    assert [(i, function.split(':')[1]) for i, function in found] == [
        (0, '_note'),
        (9, '_read'),
        (9, '_check'),
        (10, '_note'),
    ]


@pytest.mark.parametrize('kind', ['clip', 'masked autoencoder'])
def test_pretraining(gpu, tiny_clip, kind):
    """Steps of the miniature's towers; their configs clip gradients."""
    model = (
        ClipPretraining(tiny_clip('vit'))
        if kind == 'clip'
        else MaskedAutoencoder(tiny_proxy(), patch=16, side=4)
    )
    gpu.move(model)
    optimizer = optimizer_of(model, False, clip_grad=dict(max_norm=1.0))
    data = batch([(64, 64)] * 2)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(caption='a cat', named=('cat',)))
    (wait,) = gpu.waits(model.train_step, data, optimizer)
    assert wait.function in PERMITTED
