"""The small pieces of the head, each against a hand-sized example or a plain re-computation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY

from mmseg.apis.record import frozen_digests
from mmseg.errors import UserError
from mmseg.models import (
    ClassWeight,
    MaskClip,
    MaskClipHead,
    Scoring,
    TextClassifier,
    key_smooth,
    prompt_denoise,
    reweight,
)
from mmseg.models.resize import photo_matrices
from mmseg.structures import SegDataSample
from mmseg.vocabularies import load_vocabulary


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.manual_seed(seed))


# Text classifier


def test_classifier_gives_cosines():
    feats, text = random(2, 8, 3, 4), F.normalize(random(5, 8, seed=1), dim=1)
    found = TextClassifier(text, normalize=True)(feats)
    expected = torch.cosine_similarity(feats[:, None], text[None, :, :, None, None], dim=2)
    torch.testing.assert_close(found, expected)


def test_classifier_without_normalisation_is_a_convolution():
    feats, text = random(1, 8, 2, 2), random(5, 8, seed=1)
    torch.testing.assert_close(
        TextClassifier(text, normalize=False)(feats), torch.einsum('ndhw,cd->nchw', feats, text)
    )


def test_classifier_has_nothing_to_train_or_save():
    classifier = TextClassifier(random(5, 8), normalize=True)
    assert not list(classifier.parameters()) and not classifier.state_dict()


# Prompt denoising


def two_places(rows):
    """[[class scores of a place], ...] -> (1, C, 1, places)"""
    return torch.tensor(rows).T[None, :, None, :]


def test_prompt_denoise_drops_what_convinces_nowhere():
    scores = two_places([[0.30, 0.20, 0.299], [0.20, 0.30, 0.299]])
    # softmax(100 s): class 2 gets at best 1 / (1 + e^0.1 + ...) < 0.5, the others 0.52
    found = prompt_denoise(scores, threshold=0.5)
    assert torch.equal(found[:, :2], scores[:, :2])
    assert (found[:, 2] == -100).all()


def test_prompt_denoise_off():
    scores = random(1, 3, 2, 2)
    assert prompt_denoise(scores, threshold=0) is scores


def test_prompt_denoise_spares_an_image_without_survivors_unless_told():
    unsure = torch.zeros(1, 4, 1, 2)  # every class at probability 1/4
    assert torch.equal(prompt_denoise(unsure, threshold=0.5), unsure)
    assert (prompt_denoise(unsure, threshold=0.5, spare_empty=False) == -100).all()


# Key smoothing


def smoothed_plainly(scores, keys, over, normalize_rows):
    """Equation 2 with its h*w x h*w matrix."""
    probs = F.softmax(100 * scores, dim=1).flatten(2).transpose(1, 2)
    keys = F.normalize(keys, dim=2 if over == 'channels' else 1)
    affinity = keys @ keys.transpose(1, 2)
    smooth = affinity @ probs
    if normalize_rows:
        smooth = (smooth / affinity.sum(dim=2, keepdim=True)).clamp_min(0)
        smooth = smooth / smooth.sum(dim=2, keepdim=True)
    return smooth.transpose(1, 2).view(scores.shape)


@pytest.mark.parametrize('over', ['channels', 'positions'])  # Q1
@pytest.mark.parametrize('normalize_rows', [True, False])  # Q13
def test_key_smooth_against_the_full_matrix(over, normalize_rows):
    scores, keys = 0.02 * random(2, 5, 3, 4), random(2, 12, 6, seed=1).abs()
    found = key_smooth(scores, keys, threshold=1.0, over=over, normalize_rows=normalize_rows)
    torch.testing.assert_close(found, smoothed_plainly(scores, keys, over, normalize_rows))


def test_key_smooth_touches_only_unsure_places():
    scores = two_places([[0.5, 0.0], [0.001, 0.0]])  # probabilities 1.0 and 0.525
    keys = torch.ones(1, 2, 3)
    found = key_smooth(scores, keys, threshold=0.9)
    probs = F.softmax(100 * scores, dim=1)
    torch.testing.assert_close(found[..., 0], probs[..., 0])
    torch.testing.assert_close(found[..., 1], probs.mean(dim=3))


def test_key_smooth_gives_probabilities_even_of_hostile_keys():
    keys = random(1, 12, 6)  # cosines of both signs
    keys[:, 0] = 0  # a place that resembles nothing
    found = key_smooth(0.02 * random(1, 5, 3, 4), keys, threshold=1.0)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 3, 4))


# Class weight


def test_weights_have_mean_one_and_follow_tau():
    text = F.normalize(random(6, 8), dim=1)
    embedding = F.normalize(random(3, 8, seed=1), dim=1)
    for tau in (0.01, 0.25, 1.0):
        weight = ClassWeight(text, tau=tau)(embedding)
        torch.testing.assert_close(weight.mean(dim=1), torch.ones(3))
        torch.testing.assert_close(weight / 6, F.softmax(embedding @ text.T / tau, dim=1))
    summed = ClassWeight(text, tau=1.0, sum_to_one=True)(embedding)  # Q5
    usual = embedding[0] @ text.T  # of a photo like all others, every class has the weight 1
    assert torch.allclose(
        ClassWeight(text, tau=0.1, mean_similarity=usual)(embedding[:1]), torch.ones(1)
    )
    torch.testing.assert_close(summed.sum(dim=1), torch.ones(3))


def test_published_range_of_weights():
    """Q7: CLIP's cosines span about 0.15; tau 1 then barely moves, tau 0.25 moves by a third."""
    cosines = torch.linspace(0.15, 0.30, 59)[None]
    for tau, low, high in ((1.0, 0.92, 1.09), (0.25, 0.70, 1.36)):
        weight = ClassWeight(torch.eye(59), tau=tau)(cosines)
        assert low < weight.min() < weight.max() < high


@pytest.mark.parametrize('options', [{}, dict(signed=True), dict(mode='add')])
def test_no_weight_and_a_weight_of_ones_change_no_bit(options):
    scores = random(2, 5, 3, 4)
    assert torch.equal(reweight(scores, torch.ones(2, 5), **options), scores)
    assert reweight(scores, None, **options) is scores


def test_a_class_held_absent_wins_among_negatives_only_as_published():  # Q4
    scores = torch.tensor([-0.10, -0.11]).view(1, 2, 1, 1)
    weight = torch.tensor([[1.5, 0.5]])  # class 0 is seen, class 1 is not
    assert reweight(scores, weight, signed=True).argmax(dim=1).item() == 1
    assert reweight(scores, weight).argmax(dim=1).item() == 0
    positive = scores.abs()
    torch.testing.assert_close(reweight(positive, weight), reweight(positive, weight, signed=True))


@pytest.mark.parametrize('options', [{}, dict(mode='add')])
def test_tiny_tau_gives_finite_scores(options):
    weigh = ClassWeight(torch.eye(5), tau=1e-3, **options)
    found = weigh.reweight(0.2 * random(1, 5, 3, 4), F.one_hot(torch.tensor([2]), 5).float())
    assert found.isfinite().all()


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: ClassWeight(torch.eye(5), tau=0), 'tau must be a number from 0.0001 to 10000.0'),
        (lambda: ClassWeight(torch.eye(5), tau=1, mode='scale'), "mode must be 'multiply', 'add'"),
        (
            lambda: ClassWeight(torch.eye(5), tau=1, mean_similarity=[0.1]),
            'mean_similarity has 1 values for 5 classes',
        ),
        (
            lambda: MaskClipHead(None, pd_thresh=50),
            'pd_thresh must be a number from 0 to 1, not 50',
        ),
        (lambda: MaskClipHead(None, ks_thresh='high'), 'ks_thresh must be a number from 0 to 1'),
        (
            lambda: MaskClipHead(None, ks_over='chanels'),
            "ks_over must be 'channels' or 'positions', not 'chanels' .nearest: 'channels'",
        ),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_adding_multiplies_the_probabilities():
    scores, weight = 0.05 * random(1, 5, 2, 2), torch.tensor([[0.2, 0.6, 1.0, 1.4, 1.8]])
    expected = F.softmax(100 * scores, dim=1) * weight[:, :, None, None]
    found = F.softmax(100 * reweight(scores, weight, mode='add'), dim=1)
    torch.testing.assert_close(found, expected / expected.sum(dim=1, keepdim=True))


# Labels at the photo's size


def labels_at(photo_size, scores, **grid):
    """(H, W), (C, h, w), where the grid lies -> (H, W) labels"""
    return Scoring().labels(scores, *photo_matrices(scores, photo_size, **grid))


@pytest.mark.parametrize('grid, photo', [((4, 6), (37, 53)), ((9, 9), (5, 4)), ((1, 1), (3, 2))])
def test_labels_against_interpolate(grid, photo):
    scores = random(7, *grid)
    stride = 16
    size = tuple(stride * cells for cells in grid)
    plain = F.interpolate(scores[None], photo, mode='bilinear')[0].argmax(dim=0)
    once = labels_at(photo, scores, input_size=size, stride=stride)
    assert torch.equal(once.long(), plain)


def test_resized_twice_as_the_original():  # Q15
    scores = random(7, 4, 6)
    plain = F.interpolate(scores[None], (60, 90), mode='bilinear')
    plain = F.interpolate(plain, (37, 53), mode='bilinear')[0].argmax(dim=0)
    found = labels_at((37, 53), scores, input_size=(60, 90), stride=16, twice=True)
    assert (found.long() == plain).float().mean() > 0.999


def test_padding_is_not_stretched_over_the_photo():  # Q15
    """A grid of 2 x 3 cells over 24 x 40 pixels, padded to 32 x 48: the photo is its upper left."""
    scores = random(7, 2, 3)
    padded = F.interpolate(scores[None], (32, 48), mode='bilinear')[0, :, :24, :40].argmax(dim=0)
    found = labels_at((24, 40), scores, input_size=(24, 40), stride=16)
    assert torch.equal(found.long(), padded)


def test_more_than_256_classes():
    scores = torch.zeros(300, 1, 1)
    scores[299] = 1
    found = labels_at((2, 2), scores, input_size=(16, 16), stride=16)
    assert found.dtype == torch.int16 and (found == 299).all()


# The model


@pytest.fixture
def model(tiny_clip):
    from mmseg.clip import CLIPDenseExtractor

    clip = tiny_clip('vit')
    extractor = CLIPDenseExtractor(clip.model.visual, mean=clip.mean, std=clip.std)
    text = F.normalize(random(5, 32), dim=1)
    head = MaskClipHead(TextClassifier(text, normalize=True))
    return MaskClip(extractor, head, ClassWeight(text, crop='image', tau=0.1))


def photo(height, width, seed):
    return torch.randint(0, 256, (3, height, width), generator=torch.manual_seed(seed)).byte()


def test_no_label_depends_on_the_batch(model):
    images = [photo(48, 64, 0), photo(64, 48, 1), photo(48, 64, 2), photo(33, 70, 3)]
    samples = [SegDataSample(metainfo=dict(ori_shape=(90, 100))) for _ in images]
    together = model(images, samples, mode='predict')
    for image, sample in zip(images, together):
        (alone,) = model(
            [image], [SegDataSample(metainfo=dict(ori_shape=(90, 100)))], mode='predict'
        )
        torch.testing.assert_close(alone.seg_logits, sample.seg_logits, atol=1e-5, rtol=0)
        assert torch.equal(alone.pred_sem_seg, sample.pred_sem_seg)


def test_one_pass_for_the_weight_equals_two(model):
    image = photo(48, 64, 0)[None]
    shared = model.scores(image)
    model.class_weight.frozen['encoder'] = model.backbone  # now it embeds the image by itself
    torch.testing.assert_close(model.scores(image), shared)


def test_the_view_weighs_the_classes(model):  # Q8
    model.class_weight.crop = 'clip'
    image, views = photo(48, 64, 0)[None], [photo(64, 64, s)[None] for s in (1, 2)]
    weights = [model.class_weight(model.backbone.embed(view)) for view in views]
    plain = model.decode_head.conv_seg(model.backbone(image).patches)
    for view, weight in zip(views, weights):
        torch.testing.assert_close(model.scores(image, view), reweight(plain, weight))
    assert not torch.allclose(weights[0], weights[1], atol=1e-4)


def test_model_is_frozen(model):
    model.train()
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


# Numerics of the tower


@pytest.fixture
def build_vit(tmp_path):
    """Options of a backbone's config -> (LoadedCLIP, extractor) of the same tiny weights."""
    import json

    from mmseg.models import build_extractor

    (tmp_path / 'clip.json').write_text(json.dumps(dict(TINY['vit'], quick_gelu=True)))

    def make(**options):
        torch.manual_seed(0)
        return build_extractor(model=str(tmp_path / 'clip.json'), pretrained='random', **options)

    return make


def test_quirk_keys(build_vit):  # Q2
    image = photo(64, 64, 0)[None]
    (clip, right), (_, seed) = build_vit(), build_vit(project_keys=True)
    out = clip.model.visual.transformer.resblocks[-1].attn.out_proj
    torch.testing.assert_close(seed(image).keys, out(right(image).keys))
    torch.testing.assert_close(seed(image).patches, right(image).patches)


def test_quirk_numerics_of_the_tower(build_vit):  # Q3
    clip, right = build_vit()
    seed_clip, seed = build_vit(act='gelu', norm_eps=1e-6, mean=(0.1, 0.2, 0.3), std=(1, 1, 1))

    def kinds(loaded):
        visual = loaded.model.visual
        names = {type(block.mlp.gelu).__name__ for block in visual.transformer.resblocks}
        return names, {m.eps for m in visual.modules() if isinstance(m, torch.nn.LayerNorm)}

    assert kinds(clip) == ({'QuickGELU'}, {1e-5})
    assert kinds(seed_clip) == ({'GELU'}, {1e-6})
    text = seed_clip.model.transformer.resblocks[0]
    assert type(text.mlp.gelu).__name__ == 'QuickGELU'  # the text tower stays CLIP's
    assert right.mean.flatten().tolist() == pytest.approx([255 * m for m in clip.mean])
    assert seed.mean.flatten().tolist() == pytest.approx([25.5, 51, 76.5])


# Parts of a config


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(text=dict(templats='plain')), "text has no key 'templats' .nearest: 'templates'"),
        (dict(), "model.decode_head lacks the key 'text'"),
        (dict(type='PackSegInputs', text=dict()), 'no model part is called'),
        ('MaskClipHead', 'is a dict of settings'),
    ],
)
def test_parts_are_checked_when_they_are_built(tiny_clip, config, message):
    from mmseg.models import MaskClipHead
    from mmseg.models.build import build

    given = tiny_clip('vit'), load_vocabulary(['a'])
    with pytest.raises(UserError, match=message):
        build(config, *given, default=MaskClipHead, where='model.decode_head')


def test_a_registered_head_takes_the_place_of_ours(tiny_clip):
    from mmseg.models.build import build
    from mmseg.registry import MODELS

    @MODELS.register_module(name='MyHead', force=True)
    def my_head(clip, vocabulary, /, *, colour):
        return colour

    config = dict(type='MyHead', colour='blue')
    assert build(config, None, None, where='model.decode_head') == 'blue'


def with_encoder():
    """Return a MaskClip whose class weight has a prior encoder."""
    weight = ClassWeight(torch.eye(3), torch.nn.Linear(2, 2), tau=1.0)
    return torch.nn.ModuleDict(dict(class_weight=weight)), weight.frozen['encoder']


def test_digests_cover_the_prior_encoder():
    model, encoder = with_encoder()
    before = frozen_digests(model)
    assert list(before) == ['class_weight.encoder']
    with torch.no_grad():
        encoder.weight += 1
    assert frozen_digests(model) != before


def test_a_copy_of_a_model_has_its_own_frozen_modules():
    model, encoder = with_encoder()
    copy.deepcopy(model).half()
    assert encoder.weight.dtype == torch.float32
