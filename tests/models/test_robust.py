"""Training against wrong labels: each switch by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmseg.datasets import LoadPseudoLabels
from mmseg.datasets.transforms import PackSegInputs, RandomCrop, RandomFlip, RandomResize
from mmseg.errors import UserError
from mmseg.evaluation import AgreementMetric
from mmseg.labelling.labeller import mean_probabilities
from mmseg.models import ClassBalance, MaskClipPlus, RobustLoss, fill_from, fill_unlabeled
from mmseg.models.decode_heads import DecodeHead
from mmseg.models.losses import pixel_loss
from mmseg.models.segmentor import Segmentor
from mmseg.models.text_classifier import class_rows

STUDENT = torch.nn.Identity(), DecodeHead(3, torch.nn.Identity())
TARGET = torch.tensor([[[-1, 0, 255], [-1, 2, -1]]])


# The teacher's confidence


def confidence(*given, **options):
    return fill_unlabeled(*given, **options, with_confidence=True)[1]


def test_confidence_is_the_best_probability_and_1_where_somebody_labelled():
    scores = torch.zeros(1, 3, 2, 3)
    scores[0, 2, 1] = math.log(2) / 100  # e^(100 * it) of 2 + 2
    assert confidence(TARGET, scores)[0, 1].tolist() == pytest.approx([0.5, 1, 0.5])
    assert confidence(TARGET, scores)[0, 0].tolist() == pytest.approx([1 / 3, 1, 1])
    two = confidence(TARGET, scores, [0, 2])[0]
    assert two[0, 0] == pytest.approx(1 / 2) and two[1, 0] == pytest.approx(2 / 3)
    given = confidence(TARGET, torch.full((1, 3, 1, 1), 0.25), scale=None)
    assert given[TARGET == -1].tolist() == [0.25] * 3


def test_labels_of_a_folder_fill_what_nobody_labelled():
    labels = torch.tensor([[[1, 1, 1], [2, 1, 0]]], dtype=torch.uint8)
    assert fill_from(TARGET, labels).tolist() == [[[1, 0, 255], [2, 2, 0]]]
    assert fill_from(TARGET, labels, candidates=[1, 2]).tolist() == [[[1, 0, 255], [2, 2, -1]]]
    sure = torch.tensor([[[0.9, 0.0, 0.0], [0.4, 0.0, 0.5]]])
    assert fill_from(TARGET, labels, sure, threshold=0.5).tolist() == [[[1, 0, 255], [-1, 2, 0]]]


# Class balance


def test_class_weights_by_hand():
    balance = ClassBalance(2, power=0.5, memory=0.5)
    balance.count(torch.tensor([[[0] * 16 + [1] * 9 + [255] * 3]]))  # shares 0.64 and 0.36
    assert balance.class_shares.tolist() == pytest.approx([0.64, 0.36])
    one, two = 1 / 0.8, 1 / 0.6  # their mean over the pixels is 0.64 one + 0.36 two = 1.4
    assert balance.weights().tolist() == pytest.approx([one / 1.4, two / 1.4])
    balance.count(torch.tensor([[[0, 0]]]))  # half of what was, and all of class 0
    assert balance.class_shares.tolist() == pytest.approx([1.32, 0.18])
    balance.count(torch.full((1, 1, 4), 255))  # nothing labelled: the shares stay
    assert (balance.class_shares / balance.class_shares.sum()).tolist() == pytest.approx(
        [0.88, 0.12]
    )


def test_full_balance_makes_classes_alike_up_to_a_limit():
    target = torch.tensor([[[0] * 90 + [1] * 10]])
    balance = ClassBalance(3, power=1.0, most=1e9)
    weights = balance(target)
    assert weights[0, 0, :90].sum().item() == pytest.approx(weights[0, 0, 90:].sum().item())
    limited = ClassBalance(3, power=1.0, most=2.0)
    limited.count(target)
    assert limited.weights().max() == 2.0


# Losses


def test_pixel_losses_against_their_formulas():
    torch.manual_seed(0)
    scores, target = torch.randn(1, 3, 1, 2), torch.tensor([[[2, 255]]])
    p = scores.softmax(1)[0, :, 0, 0].tolist()
    q = 0.7
    assert pixel_loss(scores, target)[0, 0].tolist() == pytest.approx([-math.log(p[2]), 0])
    assert pixel_loss(scores, target, gce=q)[0, 0].tolist() == pytest.approx(
        [(1 - p[2] ** q) / q, 0]
    )
    assert pixel_loss(scores, target, gce=1.0)[0, 0, 0].item() == pytest.approx(1 - p[2])
    smooth = -0.7 * math.log(p[2]) - 0.1 * sum(math.log(x) for x in p)  # 0.3 over three classes
    assert pixel_loss(scores, target, smoothing=0.3)[0, 0].tolist() == pytest.approx([smooth, 0])


@pytest.mark.parametrize('over', ['labelled', 'all'])
def test_with_every_switch_off_it_is_cross_entropy(over):
    scores, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 8, 10))
    target[0, :4] = 255
    plain = MaskClipPlus(*STUDENT, mean=(0.5,) * 3, std=(0.2,) * 3, loss_over=over)
    expected = plain.loss_against(scores, target)
    sums = RobustLoss(3)(scores, target, torch.rand(2, 8, 10))
    found = plain.loss_against(scores, target, sums)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_pixels_count_by_confidence_and_class():
    scores, target = torch.randn(1, 2, 1, 4), torch.tensor([[[0, 0, 0, 1]]])
    sure = torch.tensor([[[1.0, 0.5, 0.0, 1.0]]])
    each = F.cross_entropy(scores, target, reduction='none')[0, 0]
    found = RobustLoss(2, confidence_power=1.0)(scores, target, sure)[0]
    torch.testing.assert_close(found, (each * sure[0, 0]).sum())
    found = RobustLoss(2, confidence_power=0.5)(scores, target, sure)[0]
    torch.testing.assert_close(found, (each * torch.tensor([1.0, 0.5**0.5, 0.0, 1.0])).sum())
    found = RobustLoss(2, balance=1.0)(scores, target, sure)[0]  # 1/C over the share
    torch.testing.assert_close(found, each[:3].sum() * (2 / 3) + each[3] * 2)


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(smoothing=0.1, gce=0.5), 'smoothing and gce exclude each other'),
        (dict(gce='x'), "gce must be a number from 0 to 1, not 'x'"),
        (dict(smoothing=1), 'smoothing must be a number of at least 0 and below 1, not 1'),
        (dict(gce=2), 'gce must be a number from 0 to 1, not 2'),
        (dict(balance=-1), 'balance must be a number of at least 0, not -1'),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UserError, match=f'(?i)robust_?loss.*{words}'):
        RobustLoss(3, **settings)


# The running average labels


def test_the_average_labels_in_its_phase_and_by_its_own_threshold():
    class Average:
        def scores(self, image, view):
            logits = torch.zeros(1, 3, 1, 2)
            logits[0, 1, 0, 0], logits[0, 2, 0, 1] = 9.0, 1.0
            return logits

    options = dict(mean=(0.5,) * 3, std=(0.2,) * 3, self_thresh=0.9)
    target = torch.tensor([[[-1, -1], [0, 0]]])
    own = torch.zeros(1, 3, 1, 1)
    own[0, 0] = 9.0
    model = MaskClipPlus(*STUDENT, ema_momentum=0.1, **options)
    model.frozen['average'] = Average()
    labels, _ = model.label_by_itself(target, own, None, None)
    assert labels.tolist() == [[[1, -1], [0, 0]]]
    labels, _ = MaskClipPlus(*STUDENT, **options).label_by_itself(target, own, None, None)
    assert labels.tolist() == [[[0, 0], [0, 0]]]


# Labels that move with their photo


def test_labels_of_a_folder_move_with_the_photo(tmp_path):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, (60, 80)).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / 'x.png')
    Image.fromarray(ids * 50).save(tmp_path / 'x.conf.png')
    row = dict(
        img=np.repeat(ids[..., None] * 100, 3, axis=2),
        gt_sem_seg=np.full((60, 80), -1, np.int16),
        ori_shape=(60, 80),
        num_classes=3,
        rng=rng,
        pseudo_path=str(tmp_path / 'x.png'),
    )
    row = LoadPseudoLabels()(row)
    for transform in (RandomCrop(32), RandomFlip(1.0)):
        row = transform(row)
    sample = PackSegInputs()(row)['data_samples']
    assert sample.pseudo_sem_seg.shape == (32, 32) == sample.gt_sem_seg.shape
    assert np.array_equal(row['img'][..., 0], sample.pseudo_sem_seg.numpy() * 100)
    assert torch.equal(sample.pseudo_confidence, sample.pseudo_sem_seg * 50)
    row = RandomResize((64, 64), (2.0, 2.0))(row)
    assert row['pseudo_sem_seg'].shape == row['img'].shape[:2] == (128, 128)
    assert set(np.unique(row['pseudo_confidence'])) <= {0, 50, 100}


# Several views of one photo


class Network(Segmentor):
    """Two classes: the brightness of a cell, and how far right it is."""

    def __init__(self):
        super().__init__(score_stride=4)
        self.decode_head = torch.nn.Identity()  # logits, so that their scale is 1

    def window_logits(self, images, embedding=None):
        height, width = (-(-side // 4) for side in images.shape[2:])
        pad = (0, width * 4 - images.shape[3], 0, height * 4 - images.shape[2])
        cells = F.avg_pool2d(F.pad(images[:, :1], pad, mode='replicate'), 4) / 255
        logits = torch.cat([cells, torch.linspace(0, 1, width).expand_as(cells)], dim=1)
        return logits, None


def test_a_single_view_is_the_network_and_its_mirror_is_turned_back():
    image = torch.rand(1, 3, 12, 16) * 255
    plain = mean_probabilities(Network(), [*image], scales=(1.0,), flip=False)
    torch.testing.assert_close(plain, Network().scores(image).softmax(1))
    both = mean_probabilities(Network(), [*image], scales=(1.0,), flip=True)
    mirror = Network().scores(image.flip(3)).softmax(1).flip(3)
    torch.testing.assert_close(both, (plain + mirror) / 2)
    assert (both - plain).abs().max() > 0.1  # the place of a cell is not mirrored


def test_scales_meet_on_one_grid_whatever_was_padded():
    image = torch.full((1, 3, 10, 14), 255.0)  # no multiple of the cells at any scale
    image[..., 7:] = 0
    found = mean_probabilities(Network(), [*image], scales=(1.0, 2.0, 4.0), flip=False)
    assert found.shape == (1, 2, 3, 4)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 3, 4))
    assert found[0, 0, :, 0].min() > 0.6 > found[0, 0, :, 3].max()


def test_a_student_compares_with_the_mean_of_a_class_s_synonyms():
    rows = torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    assert class_rows(rows) is rows
    half = math.sqrt(0.5)
    assert class_rows(rows, (0, 0, 1)).tolist() == [pytest.approx([half, half]), [0, 1]]


# Agreement


def test_agreement_by_hand():
    metric = AgreementMetric()
    metric.dataset_meta = dict(classes=('a', 'b'))
    theirs = torch.tensor([[0, 0, 1, 255]], dtype=torch.uint8)
    sample = dict(pred_sem_seg=torch.tensor([[0, 1, 1, 1]]), pseudo_sem_seg=theirs, img_path='x')
    metric.process(None, [sample])
    assert metric.evaluate(1) == dict(agreement=0.6667, agreement_mIoU=0.5)  # IoU 1/2 and 1/2
    with pytest.raises(UserError, match='x has no labels of a teacher'):
        metric.process(None, [dict(img_path='x', pred_sem_seg=sample['pred_sem_seg'])])
