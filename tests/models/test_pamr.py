"""PAMR against published outputs, and by hand."""

import numpy as np
import pytest
import torch

from mmseg.errors import UserError
from mmseg.models.refine import pamr as module
from mmseg.models.refine.pamr import PAMR, affinity, pamr

CASES = {  # of the golden file: photo, scores, steps, dilations
    'it10_d8_16': ('img', 'logits', 10, (8, 16)),
    'blocks_it1_d8_16': ('img_blocks', 'logits', 1, (8, 16)),
    'blocks_it10_d8_16': ('img_blocks', 'logits', 10, (8, 16)),
    'blocks_it10_d1_2_4_8': ('img_blocks', 'logits', 10, (1, 2, 4, 8)),
    'blocks_low_it10_d8_16': ('img_blocks', 'logits_low', 10, (8, 16)),
}


@pytest.mark.parametrize('case', CASES)
def test_published_outputs(golden, case):
    data = {k: torch.from_numpy(v) for k, v in np.load(golden / 'peers' / 'pamr.npz').items()}
    image, scores, steps, dilations = CASES[case]
    found = pamr(data[scores], data[image], steps=steps, dilations=dilations)
    torch.testing.assert_close(found, data[case], rtol=0, atol=2e-6)


@pytest.mark.parametrize('most, parts', [(1, 15), (1200, 9), (3000, 3), (6000, 2), (9000, 1)])
def test_parts_of_any_size_give_the_same(monkeypatch, most, parts):
    """Of 3 images, 5 classes and 600 pixels: 1,200 logits are two classes, 6,000 two images."""
    torch.manual_seed(0)
    scores, image = torch.randn(3, 5, 20, 30), torch.randn(3, 3, 20, 30)
    refined, shift = [], module._mean_of_neighbours

    def counted(part, *rest):
        refined.append(part)
        return shift(part, *rest)

    monkeypatch.setattr(module, '_mean_of_neighbours', counted)
    monkeypatch.setitem(module.LOGITS_AT_A_TIME, 'cpu', most)
    found = pamr(scores, image, steps=1, dilations=(2, 4))
    assert len(refined) == parts
    whole = shift(scores, affinity(image, (2, 4)), (2, 4))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


def test_a_pixel_takes_the_scores_of_those_of_its_colour():
    """Two halves of two colours: no score crosses the edge, and within a half scores are even."""
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 5.0
    scores = torch.where(image[:, :1] > 0, 1.0, -1.0)
    scores[0, 0, 2, 1] = 9.0
    found = pamr(scores, image, steps=1, dilations=(1,))
    assert found[0, 0, 2, 1] == pytest.approx(-1.0)  # the pixel itself has no weight
    assert found[0, 0, 2, 0] == pytest.approx(-1 + 10 / 8)  # one of eight alike
    weights = affinity(image, (1,))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 8, 8))
    # At the edge, 3 of 9 samples differ by 5: std 2.5, and a neighbour across has e^-20.
    assert weights[0, 4, 4, 3] == pytest.approx(np.exp(-20) / 5, rel=1e-3)  # to the right


@pytest.mark.parametrize('options', [dict(steps=0), dict(steps=1.5), dict(dilations=(8, 0))])
def test_impossible_settings(options):
    with pytest.raises(UserError, match='PAMR.* must be .*whole number of at least 1'):
        PAMR(**options)
