"""The published leaves against the original implementation's outputs on the same weights."""

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from conftest import no_first_weights
from PIL import Image

from mmseg.datasets import LoadImage, Resize
from mmseg.datasets.reading import read_mask
from mmseg.engine import load_config
from mmseg.evaluation import IoUMetric, confusion_matrix, scores_of
from mmseg.models import build_maskclip
from mmseg.structures import SegDataSample
from mmseg.vocabularies import load_vocabulary

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LEAVES = {
    name: f'{name}_520x520_pascal_context_59.py'
    for name in ('maskclip_vit16', 'maskclip_r50', 'maskclip_text_vit16', 'maskclip_text_r50')
}
CASES = {'base': (0, 0), 'pd': (0.5, 0), 'ks': (0, 1.0), 'pdks': (0.5, 1.0)}


@pytest.fixture(scope='module')
def photo(golden):
    """The leaf's own pipeline on the golden photo."""
    return load_photo(golden / '2008_000042.jpg')


def load_photo(path):
    results = LoadImage()(dict(img_path=str(path), prior_crop_size=224))
    return Resize((520, 520))(results)


@pytest.fixture(scope='module')
def build(golden, hashed_clip, tmp_path_factory):
    """A leaf's model with hashed weights and the golden text rows, `short` being vit16 or rn50."""
    text = np.load(golden / 'text.npz')
    folder = tmp_path_factory.mktemp('text')

    def rows(name):
        np.save(folder / f'{name}.npy', text[name])
        return dict(file=str(folder / f'{name}.npy'))

    def make(leaf, short):
        folder_of = CONFIGS / ('maskclip_text' if '_text_' in leaf else 'maskclip')
        model = load_config(folder_of / LEAVES[leaf]).model
        model.backbone.pretrained = hashed_clip(short)
        model.decode_head.text = rows(f'{short}_head')
        if 'class_weight' in model:
            model.class_weight.text = rows('vit16_weigher')
            model.class_weight.prior_encoder.pretrained = hashed_clip('vit16')
        model.pop('type')
        with no_first_weights():
            return build_maskclip(**model)

    return make


def run(model, photo):
    """-> (C, h, w) scores and (H, W) labels, as tools/test.py gets them."""
    image = torch.from_numpy(photo['img'].copy()).permute(2, 0, 1)
    sample = SegDataSample(metainfo=dict(ori_shape=photo['ori_shape']))
    sample.prior_crop = torch.from_numpy(photo['prior_crop'].copy()).permute(2, 0, 1)
    (sample,) = model([image], [sample], mode='predict')
    return sample.seg_logits.numpy(), sample.pred_sem_seg.numpy()


def agreement(a, b):
    return (a == b).mean()


def test_pipeline_gives_the_originals_pixels(golden, photo):
    expected = json.loads((golden / 'p1_pipeline.json').read_text())
    assert photo['img'].shape == tuple(expected['img_shape'])
    assert photo['ori_shape'] == tuple(expected['ori_shape'][:2])
    assert np.array_equal(photo['img'], np.asarray(Image.open(golden / 'p1_resized.png')))


@pytest.mark.parametrize('leaf, short', [('maskclip_vit16', 'vit16'), ('maskclip_r50', 'rn50')])
def test_maskclip_scores_thresholds_and_labels(golden, photo, build, leaf, short):
    expected = np.load(golden / f'p1_{leaf.replace("r50", "rn50")}.npz')
    model = build(leaf, short)
    features = model.backbone(torch.from_numpy(photo['img'].copy()).permute(2, 0, 1)[None])
    np.testing.assert_allclose(features.patches[0, :16], expected['feat_first16'], atol=2e-4)
    for case, (pd, ks) in CASES.items():
        model.decode_head.pd_thresh, model.decode_head.ks_thresh = pd, ks
        scores, labels = run(model, photo)
        tolerance = dict(rtol=1e-4, atol=1e-2) if ks else dict(rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores, expected[f'scores_{case}'], **tolerance)
        if not ks:  # key-smoothed maps are nearly one class: judged by their scores
            assert agreement(labels, expected[f'label_{case}']) >= 0.999


@pytest.mark.parametrize(
    'leaf, short, file',
    [
        ('maskclip_text_vit16', 'vit16', 'p1_maskclip_cw_vit16_tau1.npz'),
        ('maskclip_text_r50', 'rn50', 'p1_maskclip_cw_rn50_tau0.25.npz'),
    ],
)
def test_class_weight(golden, photo, build, leaf, short, file):
    expected = np.load(golden / file)
    model = build(leaf, short)
    assert model.class_weight.tau == expected['tau']
    encoder = model.class_weight.frozen['encoder']
    view = torch.from_numpy(photo['prior_crop'].copy()).permute(2, 0, 1)[None]
    normalised = ((view - encoder.mean) / encoder.std)[0]
    np.testing.assert_allclose(
        normalised[:, 100:108, 100:108], expected['weigher_input_crop'], atol=1e-5
    )
    embedding = encoder.embed(view)
    np.testing.assert_allclose(embedding, expected['image_embedding'], atol=1e-5)
    weights = model.class_weight(embedding)
    np.testing.assert_allclose(weights, expected['class_weights'], atol=1e-6)
    scores, labels = run(model, photo)
    np.testing.assert_allclose(scores, expected['scores'], atol=1e-6)
    assert agreement(labels, expected['label']) >= 0.999


def test_labels(golden):
    expected = json.loads((golden / 'labels.json').read_text())
    for name, histograms in expected.items():
        path = golden / 'masks' / f'{name}.png'
        shape = np.asarray(Image.open(path)).shape
        for reduce, key in ((False, 'plain'), (True, 'reduce')):
            mask = read_mask(path, shape, num_classes=60 - reduce, reduce_zero_label=reduce)
            values, counts = np.unique(mask, return_counts=True)
            found = {str(v): int(c) for v, c in zip(values, counts)}
            assert found == histograms[key]['hist'], (name, key)


def test_metric(golden):
    expected = json.loads((golden / 'metric.json').read_text())
    total = torch.zeros(59, 59, dtype=torch.int64)
    for name in expected['order']:
        mask = np.asarray(Image.open(golden / 'masks' / f'{name}.png')).astype(np.int64)
        rng = np.random.default_rng(crc32(('shared' + name).encode()))
        keep, noise = rng.random(mask.shape) < 0.5, rng.integers(0, 50, mask.shape)
        pred = np.where(keep, np.where(mask > 0, mask - 1, 0), noise)
        truth = np.where(mask > 0, mask - 1, 255)
        total += confusion_matrix(torch.from_numpy(pred), torch.from_numpy(truth), 59)
    intersect, truth, pred = total.diagonal(), total.sum(dim=1), total.sum(dim=0)
    assert intersect.tolist() == expected['intersect']
    assert truth.tolist() == expected['label'] and pred.tolist() == expected['pred']
    assert (truth + pred - intersect).tolist() == expected['union']
    values = IoUMetric.named(scores_of(total), load_vocabulary('pascal_context_59').labels)
    for key, value in expected['evaluate'].items():
        assert values[key] == (None if value is None else pytest.approx(value, abs=1e-4)), key
