"""Readouts of the last block against the outputs of their authors' own code, on the same weights.

Tolerances are those of the golden data's README: cosines 2e-6, features 1e-4. A wrong resampling of
the position embeddings alone would show as 1e-3.
"""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmseg.clip import CLIPDenseExtractor, DenseFeatures, load_clip, load_proxy
from mmseg.clip.readout import Feedback, feedback, patch_classes, readout_of
from mmseg.clip.readout.attention import gaussian_neighbourhood
from mmseg.clip.readout.feedback import class_affinity
from mmseg.clip.readout.self_calibration import find_anomalies, local_outlier_factors

MEAN = [m / 255 for m in (122.771, 116.746, 104.094)]  # the peers' rounded constants
STD = [s / 255 for s in (68.501, 66.632, 70.323)]
COSINES, FEATURES = 2e-6, 1e-4


@pytest.fixture(scope='module')
def peers(golden):
    if not (golden / 'peers').is_dir():
        pytest.skip('needs ../shared/golden/peers')
    return golden / 'peers'


@pytest.fixture(scope='module')
def expected(peers):
    """'sclip' -> the arrays of that file"""
    return functools.cache(lambda name: np.load(peers / f'{name}.npz'))


@pytest.fixture(scope='module')
def image(peers):
    """(1, 3, 336, 448)"""
    return torch.from_numpy(np.array(Image.open(peers / 'p336.png'))).permute(2, 0, 1)[None]


@pytest.fixture(scope='module')
def crop(image):
    return image[..., :336]


@pytest.fixture(scope='module')
def extractor(hashed_clip):
    """Readout's config, options -> an extractor over one ViT-B/16"""
    clip = load_clip('ViT-B-16-quickgelu', hashed_clip('vit16'))

    def make(readout, positions='factor', **options):
        return CLIPDenseExtractor(
            clip.model.visual,
            mean=MEAN,
            std=STD,
            readout=readout_of(readout),
            positions=positions,
            **options,
        )

    return make


@pytest.fixture(scope='module')
def read(extractor, crop):
    """Readout's config, rule of positions -> DenseFeatures of the crop; equal trunks run once."""
    trunks = {}

    def run(readout, positions):
        made = extractor(readout, positions)
        key = positions, made.tower.needed
        if key not in trunks:
            trunks[key] = made.trunk(crop)
        return DenseFeatures(*made.tower.dense(trunks[key]))

    return run


@pytest.fixture(scope='module')
def refine(peers):
    """ResCLIP's PAMR; the same scores are refined once."""
    pamr, done = pytest.importorskip('mmseg.models.refine.pamr').pamr, {}

    def run(scores, image):
        key = scores.double().sum().item()
        if key not in done:
            done[key] = pamr(scores, image, steps=10, dilations=(8, 16))
        return done[key]

    return run


@pytest.fixture(scope='module')
def score(golden):
    """(N, 512, h, w) -> (N, 59, h, w) cosines"""
    text = torch.from_numpy(np.load(golden / 'text.npz')['vit16_head'])
    return lambda patches: torch.einsum('ndhw,cd->nchw', F.normalize(patches, dim=1), text)


def assert_close(found, expected, atol):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


@torch.no_grad()
def check_crop(features, expected, score):
    """DenseFeatures of the crop against one method's file."""
    patches = features.patches[0]
    assert_close(score(features.patches)[0], expected['cos'], COSINES)
    assert_close(patches[:16], expected['feat_first16'], FEATURES)
    if 'feat_norm' in expected:
        assert_close(patches.norm(dim=0), expected['feat_norm'], FEATURES)


def test_image_level_cosines_of_cass(peers, image, extractor, score):
    """Of the whole photo, by plain CLIP; its dense part is not reproducible as published."""
    data = np.load(peers / 'cass.npz')
    embedding = extractor('maskclip').embed(image)
    expected = F.normalize(torch.from_numpy(data['global_vector'])[None], dim=1)
    assert_close(embedding, expected, COSINES)
    assert_close(score(embedding[:, :, None, None])[..., 0, 0], data['global_sim'], COSINES)


@pytest.mark.parametrize(
    'file, readout, positions',
    [
        ('maskclip_res', 'maskclip', 'factor'),
        ('maskclip_nores', 'maskclip_plain', 'factor'),
        ('vanilla_clip', 'clip', 'factor'),
        ('sclip', 'sclip', 'factor'),
        ('clearclip', 'clearclip', 'factor'),
        ('naclip', 'naclip', 'factor'),
        ('scclip', 'scclip_as_published', 'factor'),
        ('gem', 'gem', 'antialias'),
    ],
)
@torch.no_grad()
def test_crop(read, score, expected, file, readout, positions):
    check_crop(read(readout, positions), expected(file), score)


GEM, RESCLIP = dict(preset='gem'), dict(preset='resclip', feedback=None)
VARIANTS = [
    ('gem', 'cos_depth7_iter2_k4', dict(GEM, self_self=dict(iterations=2))),
    ('gem', 'cos_depth2_k4', dict(GEM, self_self=dict(blocks=1))),
    ('gem', 'cos_depth7_temp20_k4', dict(GEM, self_self=dict(temperature=20.0))),
    ('gem', 'cos_ori_path_k4', 'clip'),
    ('resclip_parts', 'cos_rcs_only', RESCLIP),
    ('resclip_parts', 'cos_none', dict(RESCLIP, terms=['k-k'], weights=[])),
] + [
    ('clearclip_variants', f'cos_{theirs}_{kept}', dict(preset=ours, residual=on, mlp=on))
    for theirs, ours in (
        ('vanilla', 'clip'),
        ('MaskCLIP', 'maskclip'),
        ('SCLIP', 'sclip'),
        ('ClearCLIP', 'clearclip'),
    )
    for kept, on in (('res', True), ('nores', False))
]


@pytest.mark.parametrize('file, key, readout', VARIANTS, ids=[v[1] for v in VARIANTS])
@torch.no_grad()
def test_switches(read, score, expected, file, key, readout):
    """Switches one by one; of the 59 classes, every 3rd or 4th is kept."""
    cosines = score(read(readout, 'antialias' if file == 'gem' else 'factor').patches)[0]
    assert_close(cosines[:: 3 if file == 'clearclip_variants' else 4], expected(file)[key], COSINES)


@torch.no_grad()
def test_other_shapes(extractor, image, score, expected):
    """The whole photo, which is not square, and CLIP's own size."""
    gem = extractor('gem', 'antialias')
    assert_close(score(gem(image).patches)[0, ::2], expected('gem')['whole_cos_k2'], COSINES)
    native = gem(image[..., :224, :224]).patches
    assert_close(score(native)[0, ::4], expected('gem')['cos224_k4'], COSINES)


@torch.no_grad()
def test_scclips_outliers(extractor, crop, expected):
    tokens = extractor('scclip').trunk(crop).tokens[:, 1:]
    factors = local_outlier_factors(tokens, neighbours=30, reach='patch')
    assert_close(factors[0], expected('scclip')['lof_scores_crop'], 1e-4)
    found = find_anomalies(factors, quantile=0.95)[0].nonzero().flatten()
    assert found.tolist() == expected('scclip')['lof_outliers_crop'].tolist()


def test_naclips_neighbourhood(peers, expected):
    if not (peers / 'naclip_variants.npz').exists():
        pytest.skip('naclip_variants.npz is kept for release checks')
    added = F.pad(gaussian_neighbourhood((21, 21), 5.0, like=torch.ones(1)), (1, 0, 1, 0))
    rows = added[[0, 1, 22, 221, 441]]
    assert_close(rows, expected('naclip_variants')['addition_rows'], 1e-6)


@pytest.mark.parametrize('key', ['sfr_toy', 'sfr_toy_nodel'])
def test_resclips_map_of_classes(expected, key, monkeypatch):
    """'nodel' is the published code without its decay along lines that leave their class."""
    if key == 'sfr_toy_nodel':
        monkeypatch.setattr(feedback, 'line_stays_in_class', lambda *_: torch.tensor(True))
    toy, settings = expected('resclip_parts'), Feedback(line='start', smooth='rows')
    found = class_affinity(torch.from_numpy(toy['pm_toy'])[None], settings, like=torch.ones(1))[0]
    assert_close(found, toy[key][1:, 1:] / toy[key].max(), 1e-6)


@pytest.mark.parametrize('file, threshold', [('resclip_t045', 0.045), ('resclip', 0.25)])
@torch.no_grad()
def test_resclips_second_pass(extractor, crop, score, expected, refine, file, threshold):
    readout = dict(preset='resclip_as_published', feedback=dict(threshold=threshold))
    twice = extractor(readout, refine=refine)
    first = score(twice(crop).patches)
    classes = patch_classes(
        first, (crop - twice.mean) / twice.std, twice.readout.feedback, stride=16, refine=refine
    )
    assert np.array_equal(classes[0], expected(file)['patch_matrix_crop'])
    rows = class_affinity(classes, Feedback(line='start', smooth='rows'), like=first)[0]
    rows = (rows / rows.sum(dim=1, keepdim=True))[[0, 99, 220, 440]]
    assert_close(rows, expected(file)['sfr_rows_crop'][1:, 1:], 1e-6)
    check_crop(twice(crop, score), expected(file), score)


@torch.no_grad()
def test_proxyclip(extractor, crop, score, expected, dino_file):
    proxy = load_proxy('vit_base_patch16_224.dino', str(dino_file), positions='factor')
    file = expected('proxyclip_dino_b16')
    patches = proxy.patches(crop, (21, 21))[0]
    assert_close(patches.T.unflatten(1, (21, 21))[:16], file['dino_feat_first16'], FEATURES)
    cosines = proxy(crop, (21, 21))[0]
    scores = 3 * (cosines - 1.2 * cosines.mean())
    stats = [(scores < 0).float().mean(), scores.max(), scores.diagonal().min()]
    assert_close(stats, file['mask_stats'], 1e-5)
    check_crop(extractor('proxyclip', proxy=proxy)(crop), file, score)
