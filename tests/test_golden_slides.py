"""The peers' protocol (windows, scale, thresholds, synonyms, PAMR) against their own outputs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg.models import Scoring, build_maskclip
from mmseg.models.upsample import resize
from mmseg.models.windows import Windows, photo_window_matrices

PHOTO = (375, 500)
NAMES = [f'class {i}' for i in range(59)]
PEERS = {'maskclip_res': {}}


@pytest.fixture(scope='module')
def build(golden, hashed_clip, tmp_path_factory):
    """Settings of a backbone -> a model on the hashed CLIP and the golden text, windows 224/112."""
    file = tmp_path_factory.mktemp('text') / 'text.npy'
    np.save(file, np.load(golden / 'text.npz')['vit16_head'])

    def make(**readout):
        return build_maskclip(
            dict(model='ViT-B-16-quickgelu', pretrained=hashed_clip('vit16'), **readout),
            dict(text=dict(file=str(file))),
            NAMES,
            windows=dict(size=224, stride=112),
        )

    return make


@pytest.fixture(scope='module')
def image(golden):
    photo = np.array(Image.open(golden / 'peers' / 'p336.png'))
    return torch.from_numpy(photo).permute(2, 0, 1)


@pytest.fixture(scope='module')
def found(build, image):
    """Name of a peer -> model and maps, made once."""
    made = {}

    def of(name):
        if name not in made:
            model = build(**PEERS[name])
            made[name] = model, model.maps([image])[0]
        return made[name]

    return of


def at_input_size(maps):
    windows = Windows(224, 112)
    sizes = dict(input_size=(336, 448), stride=16, windows=windows)
    return resize(maps, *photo_window_matrices(maps, (336, 448), **sizes))


def agreement(labels, expected):
    return (labels.numpy() == expected).mean()


@pytest.mark.parametrize('name', PEERS)
def test_window_averages(golden, found, name):
    expected = np.load(golden / 'peers' / f'{name}.npz')
    total = json.loads((golden / 'peers' / f'{name}.json').read_text())['slide_sum']
    scores = at_input_size(found(name)[1])
    np.testing.assert_allclose(scores[:, ::8, ::8], expected['slide_s8'], rtol=0, atol=2.2e-6)
    assert scores.double().sum().item() == pytest.approx(total, abs=2e-7 * scores.numel())


@pytest.mark.parametrize('name', PEERS)
def test_labels_thresholds_and_synonyms(golden, found, image, name):
    expected = np.load(golden / 'peers' / f'{name}.npz')
    settings = json.loads((golden / 'peers' / f'{name}.json').read_text())
    model, maps = found(name)
    scoring = dict(background=0, scale=settings['logit_scale'])
    several = tuple(i * 40 // 59 for i in range(59))
    cases = {
        'label': Scoring(),
        'label_thd': Scoring(**scoring, prob_thd=settings['thd']),
        'label_multi': Scoring(groups=several),
    }
    if 'area_thd' in settings:
        cases['label_area'] = Scoring(**scoring, area_thd=settings['area_thd'])
    for case, chosen in cases.items():
        model.scoring = chosen
        assert agreement(model.labels(maps, PHOTO, image), expected[case]) >= 0.999, case
    model.scoring = Scoring()
