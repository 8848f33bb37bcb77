"""The peers' protocol (windows, scale, thresholds, synonyms, PAMR) against their own outputs."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmseg.models import PAMR, Scoring, build_maskclip
from mmseg.models.resize import photo_matrices, resize
from mmseg.structures import SegDataSample

PHOTO = (375, 500)
NAMES = [f'class {i}' for i in range(59)]
RESCLIP = dict(preset='resclip_as_published', feedback=dict(threshold=0.045))
PEERS = {
    'maskclip_res': 'maskclip',
    'sclip': 'sclip',
    'clearclip': 'clearclip',
    'naclip': 'naclip',
    'scclip': 'scclip_as_published',
    'resclip_t045': RESCLIP,
    'proxyclip_dino_b16': 'proxyclip',
}


@pytest.fixture(scope='module')
def build(golden, hashed_clip, dino_file, tmp_path_factory):
    """A peer -> its model on the hashed weights and the golden text, with its windows."""
    file = tmp_path_factory.mktemp('text') / 'text.npy'
    np.save(file, np.load(golden / 'text.npz')['vit16_head'])

    def make(name):
        size, stride = settings_of(golden, name)['slide']
        backbone = dict(model='ViT-B-16-quickgelu', pretrained=hashed_clip('vit16'))
        backbone |= dict(readout=PEERS[name], positions='factor')
        if PEERS[name] == 'proxyclip':
            dino = dict(model='vit_base_patch16_224.dino', pretrained=str(dino_file))
            backbone['proxy'] = dict(dino, positions='factor')
        return build_maskclip(
            backbone=backbone,
            decode_head=dict(text=dict(file=str(file))),
            vocabulary=NAMES,
            windows=dict(size=size, stride=stride),
        )

    return make


@pytest.fixture(scope='module')
def image(golden):
    photo = np.array(Image.open(golden / 'peers' / 'p336.png'))
    return torch.from_numpy(photo).permute(2, 0, 1)


def settings_of(golden, name):
    return json.loads((golden / 'peers' / f'{name}.json').read_text())


def at_input_size(model, maps):
    sizes = dict(input_size=(336, 448), stride=model.score_stride, windows=model.windows)
    return resize(maps, *photo_matrices(maps, (336, 448), **sizes))


def agreement(model, image, expected):
    """Share of the pixels whose label is the expected one"""
    sample = SegDataSample(metainfo=dict(ori_shape=PHOTO))
    (sample,) = model([image], [sample], mode='predict')
    return (sample.pred_sem_seg.numpy() == expected).mean()


@pytest.mark.parametrize('name', PEERS)
def test_peer(golden, build, image, name):
    model = build(name)
    (maps,) = model.query_logits([image])
    model.query_logits = lambda *_: [maps]  # the network runs once, whatever is made of its scores
    check_averages(golden, name, model, maps)
    check_labels(golden, name, model, image)
    if name == 'naclip':
        check_pamr(golden, model, maps, image)


def check_averages(golden, name, model, maps):
    """The mean over the windows at the input's size, and its sum over everything."""
    expected = np.load(golden / 'peers' / f'{name}.npz')['slide_s8']
    total = settings_of(golden, name)['slide_sum']
    scores = at_input_size(model, maps)
    np.testing.assert_allclose(scores[:, ::8, ::8], expected, rtol=0, atol=2.2e-6)
    assert scores.double().sum().item() == pytest.approx(total, abs=1e-6 * scores.numel())


def check_labels(golden, name, model, image):
    """Plain, with several names a class, with a threshold of probability, and of area."""
    expected, settings = np.load(golden / 'peers' / f'{name}.npz'), settings_of(golden, name)
    scoring = dict(background=0, scale=settings.get('logit_scale', 40))
    cases = {
        'label': Scoring(),
        'label_multi': Scoring(groups=tuple(i * 40 // 59 for i in range(59))),
    }
    if 'thd' in settings:
        cases['label_thd'] = Scoring(**scoring, prob_thd=settings['thd'])
    if 'area_thd' in settings:
        cases['label_area'] = Scoring(**scoring, area_thd=settings['area_thd'])
    for case, chosen in cases.items():
        model.scoring = chosen
        assert agreement(model, image, expected[case]) >= 0.999, case


def check_pamr(golden, model, maps, image):
    """NACLIP with PAMR: on cosines, at the photo's size, guided by the photo as CLIP sees it."""
    expected = np.load(golden / 'peers' / 'naclip_pamr.npz')
    thd = settings_of(golden, 'naclip_pamr')['thd']
    sizes = dict(input_size=(336, 448), stride=16, windows=model.windows)
    cosines = resize(maps, *photo_matrices(maps, PHOTO, **sizes))
    guide = F.interpolate(model.normalised(image)[None], PHOTO, mode='bilinear')
    refined = PAMR()(cosines[None, ::3], guide)[0]
    np.testing.assert_allclose(refined[:, ::8, ::8], expected['pamr_s8_k3'], rtol=0, atol=2.2e-6)
    model.post.append(PAMR(steps=10, dilations=(8, 16)))
    for case, prob_thd in (('label', 0.0), ('label_thd', thd)):
        model.scoring = Scoring(background=0, scale=40, prob_thd=prob_thd)
        assert agreement(model, image, expected[case]) >= 0.999, case
