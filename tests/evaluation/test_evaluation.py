import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torchmetrics.functional.segmentation import mean_iou

from mmseg.errors import UserError
from mmseg.evaluation import IoUMetric, confusion_matrix, score_table, scores_of
from mmseg.structures import SegDataSample
from mmseg.utils.tensors import bincount


def labels(seed, classes=5, shape=(20, 30)):
    return torch.randint(0, classes, shape, generator=torch.manual_seed(seed))


def test_confusion_against_scikit_learn():
    truth, pred = labels(0), labels(1)
    truth[:3] = 255
    kept = truth != 255
    expected = sklearn_confusion(truth[kept], pred[kept], labels=range(5))
    assert np.array_equal(confusion_matrix(pred, truth, 5), expected)


def test_both_ways_of_counting():
    index = labels(0).flatten().int()
    assert torch.equal(bincount(index, 7), torch.bincount(index, minlength=7))


@pytest.mark.parametrize('kind', [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_class_255_is_ignored_only_where_it_is_no_class(kind):
    truth, pred = torch.full((6,), 255, dtype=kind), torch.arange(6)
    assert confusion_matrix(pred, truth, 255).sum() == 0
    counts = confusion_matrix(pred, truth, 459)
    assert counts.sum() == 6 and counts[255, :6].tolist() == [1] * 6


def test_iou_against_torchmetrics():
    truth, pred = labels(0), labels(1)
    expected = mean_iou(
        pred[None], truth[None], num_classes=5, per_class=True, input_format='index'
    )
    torch.testing.assert_close(scores_of(confusion_matrix(pred, truth, 5)).iou.float(), expected[0])


def test_by_hand():
    """Truth 0 0 1 1, prediction 0 1 1 2, class 3 in neither."""
    scores = scores_of(confusion_matrix(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1]), 4))
    nan = float('nan')
    torch.testing.assert_close(
        scores.iou, torch.tensor([1 / 2, 1 / 3, 0, nan]).double(), equal_nan=True
    )
    torch.testing.assert_close(
        scores.acc, torch.tensor([1 / 2, 1 / 2, nan, nan]).double(), equal_nan=True
    )
    torch.testing.assert_close(
        scores.prec, torch.tensor([1, 1 / 2, 0, nan]).double(), equal_nan=True
    )
    named = IoUMetric.named(scores, 'abcd')
    assert named['aAcc'] == 0.5 and named['IoU.d'] is None
    assert named['mIoU'] == round((1 / 2 + 1 / 3 + 0) / 3, 4)  # Q18: mmseg's mean
    assert named['mIoU_present'] == round((1 / 2 + 1 / 3) / 2, 4)


def test_metric_adds_up_over_batches():
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=list('abcde'))
    samples = []
    for seed in range(4):
        sample = SegDataSample(metainfo=dict(img_path=f'{seed}.jpg'))
        sample.gt_sem_seg, sample.pred_sem_seg = labels(seed).byte(), labels(seed + 10).byte()
        samples.append(sample)
    metric.process(None, [sample.to_dict() for sample in samples[:3]])
    metric.process(None, [samples[3].to_dict()])
    found = metric.evaluate(4)
    whole = confusion_matrix(
        torch.cat([s.pred_sem_seg for s in samples]), torch.cat([s.gt_sem_seg for s in samples]), 5
    )
    assert found == IoUMetric.named(scores_of(whole), 'abcde')


def test_no_mask_is_said():
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=['a'])
    with pytest.raises(UserError, match='p.jpg has no mask'):
        metric.process(None, [dict(img_path='p.jpg', pred_sem_seg=labels(0))])


def test_table():
    scores = scores_of(confusion_matrix(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1]), 4))
    text = score_table(('cat', 'dog', 'sky', 'sea'), scores).splitlines()
    assert text[2].split() == ['cat', '50.00', '50.00', '100.00']
    assert text[5].split() == ['sea', '-', '-', '-']
    assert text[7].split() == ['aAcc', '50.00', 'mIoU', '27.78', 'mAcc', '50.00', 'mPrec', '50.00']
