"""Edges of losses, pseudo-labels and class weights that no other test would notice."""

import pytest
import torch
from torch.testing import assert_close

from mmseg.models import ClassWeight, fill_from
from mmseg.models.losses import cross_entropy, plain_cross_entropy

TARGET = torch.tensor([[[0, 1, 255, 2], [2, 2, 0, 1]]])


@pytest.mark.parametrize('switch', [{}, dict(smoothing=0.2), dict(gce=0.7)])
@pytest.mark.parametrize('scale', [1, 1000])
def test_row_chunks_give_pytorchs_own_loss(switch, scale):
    """Also for logits whose exponential overflows."""
    logits = scale * torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.linspace(0.5, 2, 8).view(1, 2, 4)
    loss, correct = cross_entropy(logits, TARGET, weight, **switch)
    expected, right = plain_cross_entropy(logits, TARGET, weight, **switch)
    assert loss.isfinite() and correct == right
    assert_close(loss, expected)


def test_a_threshold_needs_no_stored_confidence():
    target, labels = torch.tensor([[[-1, 0]]]), torch.tensor([[[2, 1]]])
    assert fill_from(target, labels, threshold=0.5).tolist() == [[[2, 0]]]


def test_a_class_weight_adds_nothing_to_a_checkpoint():
    weight = ClassWeight(torch.eye(3), tau=1.0, mean_similarity=[0.1, 0.2, 0.3])
    assert not weight.state_dict()
