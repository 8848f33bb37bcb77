"""Synonyms, scale, thresholds, image-level priors and votes, each on hand-sized examples."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmseg.errors import UserError
from mmseg.models import PAMR, ClassWeight, Scoring, Superpixels, build_maskclip
from mmseg.models.refine.superpixels import majority
from mmseg.vocabularies import load_vocabulary


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.manual_seed(seed))


def row(*places):
    """Scores of places, a tuple of queries each -> (Q, 1, places)"""
    return torch.tensor(places).T[:, None]


# From queries to labels


def plainly(scores, groups, scale, prob_thd, area_thd):
    """The published order of steps on a full (Q, H, W): softmax, names, areas, argmax, threshold"""
    probability = (scale * scores).softmax(dim=0)
    classes = torch.stack(
        [probability[[g == c for g in groups]].amax(dim=0) for c in range(max(groups) + 1)]
    )
    area = F.one_hot(classes.argmax(dim=0), len(classes)).sum(dim=(0, 1))[1:]
    classes[1:] *= (area > area_thd * area.sum())[:, None, None]
    labels = classes.argmax(dim=0)
    labels[classes.amax(dim=0) < prob_thd] = 0
    return labels


@pytest.mark.parametrize('groups', [tuple(range(7)), (0, 0, 0, 1, 2, 2, 3)])
@pytest.mark.parametrize('prob_thd, area_thd', [(0, 0), (0.35, 0), (0, 0.25), (0.35, 0.25)])
def test_slab_by_slab_equals_the_published_steps(groups, prob_thd, area_thd):
    scores = 0.03 * random(7, 40, 30) - 0.008 * torch.arange(7)[:, None, None]
    scoring = Scoring(groups, background=0, scale=40, prob_thd=prob_thd, area_thd=area_thd)
    expected = plainly(scores, groups, 40, prob_thd, area_thd)
    if prob_thd or area_thd:
        assert (expected != plainly(scores, groups, 40, 0, 0)).sum() > 20
    assert torch.equal(scoring.labels(scores).long(), expected)
    ones = [torch.eye(side, dtype=torch.float64) for side in (40, 30)]
    assert torch.equal(scoring.labels(scores, *ones).long(), expected)


def test_a_class_has_the_score_of_its_best_synonym():
    scores = row((0.1, 0.3, 0.2), (0.2, 0.1, 0.3))
    scoring = Scoring(groups=(0, 0, 1))
    assert torch.equal(scoring.by_class(scores), row((0.3, 0.2), (0.2, 0.3)))
    assert scoring.labels(scores).tolist() == [[0, 1]]
    batch = torch.stack([scores, scores])
    assert torch.equal(scoring.by_class(batch)[1], scoring.by_class(scores))


def test_the_scale_moves_thresholds_and_no_label():
    scores = row((0.0, 0.02), (0.0, 0.04))  # of two: softmax(s * difference)
    # 1 / (1 + e^-1) = 0.731 and 1 / (1 + e^-2) = 0.881 at 50, 0.881 and 0.982 at 100
    for scale, labels in ((50, [[0, 1]]), (100, [[1, 1]])):
        assert Scoring(scale=scale).labels(scores).tolist() == [[1, 1]]
        strict = Scoring(background=0, scale=scale, prob_thd=0.8)
        assert strict.labels(scores).tolist() == labels
    given = Scoring(background=0, scale=None, prob_thd=0.03)  # they are probabilities already
    assert given.labels(scores).tolist() == [[0, 1]]


def test_small_areas_go_to_the_best_that_is_left():
    places = [(0.0, 0.9, 0.1)] * 8 + [(0.3, 0.0, 0.9)] + [(0.9, 0.0, 0.1)] * 9
    labels = Scoring(background=0, area_thd=0.2).labels(row(*places))
    assert labels[0, :8].eq(1).all()  # 8 of the 9 pixels that are not background
    assert labels[0, 8:].eq(0).all()  # class 2 has 1 of 9; background is not judged


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(prob_thd=0.1), "has no class called 'background'"),
        (dict(area_thd=0.1), "has no class called 'background'"),
        (dict(prob_thd=50, background=0), 'scoring.prob_thd must be a number from 0 to 1'),
        (dict(scale=0), 'scoring.scale must be a number from 0.0001 to 1000000.0'),
    ],
)
def test_impossible_scoring(options, message):
    with pytest.raises(UserError, match=message):
        Scoring(**options)


# From a config to a model


@pytest.fixture
def build(tmp_path):
    """A vocabulary and options of the model -> MaskClip of a tiny random tower, text per query."""
    from conftest import TINY

    (tmp_path / 'clip.json').write_text(json.dumps(TINY['vit']))

    def make(vocabulary, rows=None, **options):
        rows = len(vocabulary) if rows is None else rows
        torch.save(F.normalize(random(rows, 32, seed=1), dim=1), tmp_path / 'text.pth')
        torch.manual_seed(0)
        backbone = dict(model=str(tmp_path / 'clip.json'), pretrained='random')
        head = dict(text=dict(file=str(tmp_path / 'text.pth')))
        return build_maskclip(backbone=backbone, decode_head=head, vocabulary=vocabulary, **options)

    return make


def photo(height, width):
    return torch.randint(0, 256, (3, height, width), generator=torch.manual_seed(0)).byte()


def test_synonyms_by_maximum_are_queries(build):
    words = ['background: sky | wall', 'dog', 'cat | kitten | tabby']
    model = build(words, rows=6, scoring=dict(synonyms='max', scale=40, prob_thd=0.1))
    assert model.scoring == Scoring((0, 0, 1, 2, 2, 2), background=0, scale=40, prob_thd=0.1)
    scores = model.batch_logits(photo(48, 64)[None])
    assert scores.shape[1] == 6
    best = [scores[:, :2].amax(dim=1), scores[:, 2], scores[:, 3:].amax(dim=1)]
    assert torch.equal(model.scores(photo(48, 64)[None]), torch.stack(best, dim=1))
    assert build(words).scores(photo(48, 64)[None]).shape[1] == 3  # by their mean, as ever


def test_by_prompt_names_every_query():
    queries, groups = load_vocabulary(['dog | puppy', 'cat']).by_prompt()
    assert queries.prompts == (('dog',), ('puppy',), ('cat',)) and groups == (0, 0, 1)
    assert queries.ids_of('dog') == [0, 1] and queries.ids_of('cat') == [2]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(scoring=dict(prob_thd=0.1)), "has no class called 'background'"),
        (dict(scoring=dict(synonyms='best')), "synonyms must be 'mean' or 'max', not 'best'"),
        (dict(scoring=dict(prob_tdh=0.1)), "model.scoring has no key 'prob_tdh'"),
        (dict(windows=dict(size=8, stride=8)), 'less than a patch of 16'),
        (dict(windows=dict(size=64)), "model.windows lacks the key 'stride'"),
        (dict(post=dict(steps=3)), "model.post is such as dict(type='PAMR')"),
        (dict(post=dict(type='PAMR', step=3)), "model.post has no key 'step'"),
        (dict(post=dict(type='MaskClip')), 'model.post'),
    ],
)
def test_bad_settings_are_told_in_a_line(build, options, message):
    with pytest.raises(UserError) as error:
        build(['dog', 'cat'], **options)
    assert message in str(error.value) and '\n' not in str(error.value)


def test_post_processing_at_the_photos_size(build):
    from mmseg.structures import SegDataSample

    words, image = ['dog', 'cat', 'sky'], photo(48, 64)

    def labels(**options):
        sample = SegDataSample(metainfo=dict(ori_shape=(60, 80)))
        (sample,) = build(words, **options)([image], [sample], mode='predict')
        return sample.pred_sem_seg

    model = build(words)
    full = F.interpolate(model.scores(image[None]), (60, 80), mode='bilinear')
    guide = F.interpolate(model.normalised(image)[None], (60, 80), mode='bilinear')
    refined = labels(post=dict(type='PAMR', steps=2))
    assert torch.equal(refined.long(), PAMR(2)(full, guide)[0].argmax(dim=0))
    assert not torch.equal(refined, labels())
    voted = labels(post=[dict(type='PAMR', steps=2), dict(type='Superpixels', segments=30)])
    rgb = F.interpolate(image[None].float(), (60, 80), mode='bilinear')[0]
    assert torch.equal(voted, Superpixels(30)(refined, rgb))


# Majority votes


def test_majority_by_hand():
    labels = torch.tensor([[3, 3, 1], [0, 1, 1], [2, 2, 0]], dtype=torch.uint8)
    segments = torch.tensor([[0, 0, 1], [0, 1, 1], [2, 2, 2]])
    found = majority(labels, segments)
    assert found.tolist() == [[3, 3, 1], [3, 1, 1], [2, 2, 2]] and found.dtype == torch.uint8
    tie = majority(torch.tensor([[4, 2]]), torch.zeros(1, 2, dtype=torch.long))
    assert tie.tolist() == [[2, 2]]


@pytest.mark.parametrize('method', ['slic', 'felzenszwalb'])
def test_superpixels_end_at_edges(method):
    """Noisy labels on a picture of two flat halves: each half gets its majority."""
    image = torch.zeros(3, 40, 60)
    image[:, :, 30:] = 255.0
    truth = (image[0] > 0).long()
    wrong = torch.rand(40, 60, generator=torch.manual_seed(0)) < 0.2
    found = Superpixels(8, method=method)(truth ^ wrong.long(), image)
    assert torch.equal(found, truth)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(method='watershed'), 'method must be'),
        (dict(segments=0), 'a whole number of at least 1, not 0'),
    ],
)
def test_impossible_superpixels(options, message):
    with pytest.raises(UserError, match=message):
        Superpixels(**options)


# Image-level priors


def test_blend_is_the_published_example(golden):
    """CASS's own numbers: 0.75 of the place's cosines and 0.25 of the image's."""
    data = json.loads((golden / 'peers' / 'cass.json').read_text())
    example = {k: torch.tensor(v) for k, v in data['example_patch_row3_col5_classes0to7'].items()}
    weigh = ClassWeight(torch.eye(8), mode='blend', alpha=data['global_semantics_weight'])
    found = weigh.reweight(
        example['cos_adjusted'][None, :, None, None], example['global_sim'][None]
    )
    torch.testing.assert_close(found[0, :, 0, 0], example['result'], rtol=0, atol=1e-7)


def test_the_prior_of_the_whole_photo_is_the_published_one(golden):
    data, text = np.load(golden / 'peers' / 'cass.npz'), np.load(golden / 'text.npz')['vit16_head']
    weigh = ClassWeight(torch.from_numpy(text), mode='blend')
    found = weigh.cosines(F.normalize(torch.from_numpy(data['global_vector'])[None], dim=1))
    np.testing.assert_allclose(found, data['global_sim'], rtol=0, atol=1e-6)


def test_topk_counts_classes_not_their_words():
    """Two of three classes stay, whichever of their words are seen."""
    weigh = ClassWeight(torch.eye(5), None, (0, 0, 0, 1, 2), mode='topk', k=2)
    found = weigh.reweight(random(1, 5, 2, 2), torch.tensor([[0.1, 0.5, 0.4, 0.2, 0.3]]))
    assert (found == -100).flatten(2).all(dim=2).tolist() == [[False] * 3 + [True, False]]
    with pytest.raises(UserError, match='class_weight.k must be a whole number from 1 to 3, not 4'):
        ClassWeight(torch.eye(5), None, (0, 0, 0, 1, 2), mode='topk', k=4)


def test_blend_can_be_centred():
    means = torch.tensor([0.2, 0.1])
    weigh = ClassWeight(torch.eye(2), mode='blend', alpha=0.5, mean_similarity=means)
    found = weigh.reweight(torch.zeros(1, 2, 1, 1), torch.tensor([[0.3, 0.3]]))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.05, 0.10]))


def test_topk_leaves_the_top_and_the_kept_classes():
    weigh = ClassWeight(torch.eye(4), mode='topk', k=2, keep=[3])
    scores = random(1, 4, 2, 2)
    found = weigh.reweight(scores, torch.tensor([[0.1, 0.4, 0.3, 0.0]]))
    assert (found[:, 0] == -100).all()
    assert torch.equal(found[:, 1:], scores[:, 1:])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(mode='topk'), 'class_weight.k must be a whole number from 1 to 5, not None'),
        (dict(mode='topk', k=6), 'class_weight.k must be a whole number from 1 to 5, not 6'),
        (dict(mode='blend', alpha=2), 'ClassWeight.alpha must be a number from 0 to 1'),
        (dict(), 'class_weight.tau must be a number from 0.0001 to 10000.0'),
    ],
)
def test_impossible_priors(options, message):
    with pytest.raises(UserError, match=message):
        ClassWeight(torch.eye(5), **options)


def test_mean_cosines_of_a_data_set(tiny_config, tmp_path, capsys):
    """The tool's file is the mean over the photos, and a config takes it."""
    from conftest import run_script
    from mmengine.registry import DefaultScope

    from mmseg.engine import load_config
    from mmseg.registry import DATASETS, MODELS

    weight = (
        f"class_weight = dict(mode='blend', crop='image', text=dict(file='{tmp_path}/text.pth'))"
    )
    tiny_config.write_text(tiny_config.read_text() + weight)
    out = tmp_path / 'usual.npy'
    torch.manual_seed(0)
    assert run_script('analysis/mean_similarity', tiny_config, '--out', out, '--device', 'cpu') == 0
    assert 'over 5 photos' in capsys.readouterr().out
    config = load_config(tiny_config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(config.test_dataloader.dataset)
        torch.manual_seed(0)
        plain = MODELS.build(config.model)
    rows = [
        plain.class_weight.cosines(plain.backbone.embed(row['inputs'][None]))[0]
        for row in (dataset[i] for i in range(5))
    ]
    np.testing.assert_allclose(np.load(out), torch.stack(rows).mean(dim=0), atol=1e-5)
    config = load_config(tiny_config, {'class_weight.mean_similarity': str(out)})
    centred = MODELS.build(config.model)
    np.testing.assert_array_equal(centred.class_weight.mean_similarity, np.load(out))
    with pytest.raises(UserError, match='no weights file .*nowhere.npy'):
        MODELS.build(
            load_config(tiny_config, {'class_weight.mean_similarity': 'nowhere.npy'}).model
        )


def test_the_protocol_stands_beside_the_figures(tiny_config, tmp_path, capsys):
    from mmseg.apis.test import test
    from mmseg.engine import load_config

    options = {'protocol': dict(scale=(2048, 48), windows=dict(size=32, stride=16))}
    config = load_config(tiny_config, options)
    test(config, work_dir=tmp_path / 'work', device='cpu')
    text = '48-slide: photos short side 48, long side up to 2048, windows of 32 every 16'
    assert f'protocol {text}' in capsys.readouterr().out
    (path,) = (tmp_path / 'work').glob('eval_single_scale_*.json')
    assert json.loads(path.read_text())['protocol'] == text


def test_a_loaded_model_has_all_of_it():
    """Windows, synonyms, thresholds and PAMR of a config, for any words."""
    from pathlib import Path

    from mmseg.apis import init_model, segment
    from mmseg.datasets.miniature import MiniatureDataset

    leaf = Path(__file__).resolve().parents[2] / 'configs' / 'miniature' / 'maskclip_vit.py'
    scene = MiniatureDataset(scenes=1, world=1).draw('miniature/1/00000.png').image
    windows, post = dict(size=48, stride=16), dict(type='PAMR', steps=2)
    options = {'model.windows': windows, 'model.post': post}
    options['model.scoring'] = dict(synonyms='max', scale=40)
    model = init_model(leaf, device='cpu', cfg_options=options)
    found = segment(model, scene, 'moon | star, sky | water, grass')
    plain = segment(init_model(leaf, device='cpu'), scene, 'moon, star, sky, water, grass')
    assert found.scores.shape == (3, *plain.scores.shape[1:]) and found.labels.max() < 3
    network = next(iter(model.networks.values()))
    assert network.scoring.groups == (0, 0, 1, 1, 2) and len(network.post) == 1
    options['model.scoring'] = dict(prob_thd=0.9)  # of a background, which only some words have
    with pytest.raises(UserError, match='scoring.prob_thd makes background of pixels'):
        segment(init_model(leaf, device='cpu', cfg_options=options), scene)
    model = init_model(leaf, device='cpu', cfg_options=options)
    assert segment(model, scene, 'moon, sky').names == ('moon', 'sky')
    unsure = segment(model, scene, 'moon, sky', background='water, grass')
    options['model.scoring'] = dict(prob_thd=0.0)
    sure = segment(
        init_model(leaf, device='cpu', cfg_options=options),
        scene,
        'moon, sky',
        background='water, grass',
    )
    assert (unsure.labels == 2).sum() > (sure.labels == 2).sum()
