"""Each switch of a readout by hand, on a few patches; presets on tiny towers of any shape."""

import dataclasses
import math

import pytest
import torch
from conftest import TINY
from timm.models.vision_transformer import VisionTransformer
from torch import tensor
from torch.testing import assert_close

from mmseg.clip import CLIPDenseExtractor, ProxyViT, load_proxy
from mmseg.clip.readout import PRESETS, Feedback, Readout, patch_classes, readout_of
from mmseg.clip.readout.attention import (
    apply_attention,
    gaussian_neighbourhood,
    similarity_attention,
)
from mmseg.clip.readout.attention import sum_pair_attentions as pair_sum
from mmseg.clip.readout.feedback import class_affinity, line_stays_in_class
from mmseg.clip.readout.self_calibration import (
    average_similar,
    local_outlier_factors,
    repair_patches,
)
from mmseg.clip.readout.switches import block_number, blocks_needed
from mmseg.clip.transformer import resize_positions
from mmseg.errors import UserError
from mmseg.models import build_maskclip

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def pixels(*size):
    return torch.randint(0, 256, (2, 3, *size), generator=torch.manual_seed(2), dtype=torch.uint8)


def tiny_proxy(patch=8, **options):
    torch.manual_seed(3)
    vit = VisionTransformer(
        img_size=32, patch_size=patch, embed_dim=24, depth=2, num_heads=2, num_classes=0, **options
    )
    return ProxyViT(vit.eval(), mean=MEAN, std=STD)


@pytest.fixture(scope='module')
def extractor(tiny_clip):
    """Readout's config, options -> an extractor over one tiny ViT, with its proxy"""
    clip = tiny_clip('vit')

    def make(readout='maskclip', **options):
        readout = readout_of(readout)
        if 'proxy' in readout.terms:
            options.setdefault('proxy', tiny_proxy())
        return CLIPDenseExtractor(clip.model.visual, mean=MEAN, std=STD, readout=readout, **options)

    return make


@torch.no_grad()
def patches_of(extractor, image=None):
    return extractor(pixels(48, 80) if image is None else image).patches


# Attention of two patches, [1, 0] and [0, 1]: softmax([1 / sqrt 2, 0]) = [0.6698, 0.3302]

TWO = torch.eye(2)[None, None]
NEAR = 1 / (1 + math.exp(-(2**-0.5)))


def test_pairs_of_two_patches():
    assert_close(
        pair_sum([TWO] * 3, [('q', 'q', 1.0)])[0, 0], tensor([[NEAR, 1 - NEAR], [1 - NEAR, NEAR]])
    )
    other = TWO.flip(2)  # keys that point at the other patch
    assert_close(pair_sum([TWO, other, TWO], [('q', 'k', 1.0)])[0, 0, 0], tensor([1 - NEAR, NEAR]))
    both = pair_sum([TWO, other, TWO], [('q', 'q', 1.0), ('q', 'k', 0.5)])[0, 0, 0]
    assert_close(both, tensor([NEAR + 0.5 * (1 - NEAR), 1 - NEAR + 0.5 * NEAR]))


def test_bias_and_factor_of_two_patches():
    zero = torch.zeros(1, 1, 2, 2)
    bias = tensor([[0.0, math.log(3)], [0.0, 0.0]])
    assert_close(
        pair_sum([zero, zero, TWO], [('q', 'k', 1.0)], bias=bias)[0, 0, 0], tensor([0.25, 0.75])
    )
    sharp = 1 / (1 + math.exp(-2 * 2**-0.5))
    assert_close(
        pair_sum([TWO] * 3, [('k', 'k', 1.0)], factor=2.0)[0, 0, 0], tensor([sharp, 1 - sharp])
    )


def test_maps_for_all_heads_and_for_each():
    share = tensor([[0.25, 0.75], [1.0, 0.0]])
    values = torch.stack([torch.eye(2), 2 * torch.eye(2)])[None]  # two heads
    expected = torch.stack([share, 2 * share])[None]
    assert_close(apply_attention(share[None], values), expected)
    assert_close(apply_attention(share.expand(1, 2, 2, 2), values), expected)


def test_gaussian_neighbourhood():
    row = gaussian_neighbourhood((2, 3), 1.0, like=torch.ones(1))[0]
    one, two, three = (math.exp(-squares / 2) for squares in (1, 2, 5))
    assert_close(row, tensor([1, one, math.exp(-2), one, two, three]))


def test_sharpened_cosines():
    cosines = tensor([[[1.0, 0.8], [0.8, 1.0]]])  # mean 0.9
    near = 1 / (1 + math.exp(-2))
    assert_close(similarity_attention(cosines, margin=0.5, gain=10)[0, 0], tensor([near, 1 - near]))
    assert_close(
        similarity_attention(cosines, margin=1, gain=10)[0], torch.eye(2)
    )  # 0.8 < 0.9: left out
    assert_close(
        similarity_attention(cosines, margin=1.2, gain=3)[0], torch.eye(2)
    )  # nothing left, no NaN


def test_gathered_patches():
    patches = tensor([[[1.0], [4.0]]])
    cosines = tensor([[[1.0, 0.5], [0.3, 1.0]]])
    assert_close(
        average_similar(patches, cosines, threshold=0.4),
        tensor([[[2.0], [4.0]]]),
        rtol=1e-5,
        atol=0,
    )


# Anomalies


def test_outlier_factors_are_scikit_learns():
    from sklearn.neighbors import LocalOutlierFactor

    points = torch.randn(2, 40, 3, generator=torch.manual_seed(0))
    points[0, 5] += 8
    found = local_outlier_factors(points, neighbours=6)
    for one, factors in zip(points, found):
        referee = LocalOutlierFactor(6, metric='sqeuclidean').fit(one.numpy())
        assert_close(
            -factors, torch.tensor(referee.negative_outlier_factor_).float(), atol=1e-4, rtol=0
        )
    assert found[0].argmax() == 5


def test_repair_takes_the_sound_neighbours():
    patches = torch.arange(9.0).view(1, 9, 1)
    broken = torch.zeros(1, 9, dtype=torch.bool)
    broken[0, [0, 4]] = True  # neighbours of the corner: 1, 3, 4; of the centre: all
    found = repair_patches(patches, broken, (3, 3)).flatten()
    expected = torch.arange(9.0)
    expected[0], expected[4] = 2, (1 + 2 + 3 + 5 + 6 + 7 + 8) / 7
    assert_close(found, expected)
    assert torch.equal(repair_patches(patches, torch.ones_like(broken), (3, 3)), patches)


# A second pass


def test_lines_that_leave_their_class():
    classes = torch.zeros(1, 1, 9, dtype=torch.long)
    classes[0, 0, 1] = 1
    whole, start = (line_stays_in_class(classes, line)[0] for line in ('whole', 'start'))
    assert not whole[0, 2] and whole[2, 8] and not whole[0, 8]
    assert start[0, 2] and not start[0, 8]  # samples of the short line never reach its middle


def test_map_of_classes():
    settings = Feedback()
    none = class_affinity(torch.full((1, 2, 3), -1), settings, like=torch.ones(1))
    assert (none == 0).all()
    two = class_affinity(tensor([[[0, 0, 1]], [[0, 0, 0]]]), settings, like=torch.ones(1))
    assert_close(two.amax(dim=(1, 2)), torch.ones(2))
    assert two[0, 0, 0] > two[0, 0, 2] and two[0, 2, 2] > two[0, 2, 0]
    one = class_affinity(tensor([[[0, 0, 1]]]), settings, like=torch.ones(1))
    assert_close(two[:1], one)


def test_classes_of_patches():
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 1, 0, 0], scores[0, 0, 0, 1] = 1.0, 0.01
    image = torch.zeros(1, 3, 4, 7)  # the second patch is cut off
    sure, unsure = Feedback(threshold=0.9, scale=40), Feedback(threshold=0.9, unsure='first')
    assert patch_classes(scores, image, sure, stride=4).tolist() == [[[1, -1]]]
    assert patch_classes(scores, image, unsure, stride=4).tolist() == [[[1, 0]]]
    flipped = patch_classes(scores, image, sure, stride=4, refine=lambda s, _: s.flip(1))
    assert flipped.tolist() == [[[0, -1]]]


# Towers


def test_plain_attention_is_the_towers_own(extractor):
    clip = extractor('clip')
    visual, trunk = clip.tower.visual, clip.trunk(pixels(48, 80))
    with torch.no_grad():
        tokens = visual.transformer.resblocks[-1](trunk.tokens)[:, 1:]
        expected = (visual.ln_post(tokens) @ visual.proj).transpose(1, 2).unflatten(2, (3, 5))
    assert_close(patches_of(clip), expected, atol=1e-5, rtol=0)


def test_terms_add(extractor):
    """Before the last norm: two terms less one are the other, but for the projection's bias."""
    from mmseg.clip.readout import read_last_block

    trunk = extractor().trunk(pixels(48, 80))
    blocks = extractor().tower.visual.transformer.resblocks
    plain = dict(residual=False, mlp=False)
    with torch.no_grad():
        both, first, second = (
            read_last_block(blocks, trunk, Readout(terms, weights, **plain))
            for terms, weights in ((('q-q', 'value'), (1.0, 2.0)), (('q-q',), ()), (('value',), ()))
        )
        bias = blocks[-1].attn.out_proj.bias
    assert_close(both, first + 2 * (second - bias), atol=1e-5, rtol=0)
    with torch.no_grad():
        kept = read_last_block(blocks, trunk, Readout(('q-q',), mlp=False, cls_weight=0.5))
    assert_close(kept, first + trunk.tokens[:, 1:] + 0.5 * trunk.tokens[:, :1], atol=1e-5, rtol=0)


def test_class_token_out_of_the_attention(extractor):
    """A photo of one patch then attends to itself alone: its own value, whatever the term."""
    one = pixels(16, 16)
    out = dict(residual=False, mlp=False, use_cls_token=False)
    alone = patches_of(extractor(dict(terms='q-q', **out)), one)
    assert_close(alone, patches_of(extractor('maskclip_plain'), one), atol=1e-5, rtol=0)
    among_two = patches_of(extractor('clearclip'), one)
    assert (among_two - alone).abs().max() > 1e-3


@pytest.mark.parametrize('readout', ['maskclip', 'sclip', 'proxyclip'])
def test_what_is_no_whole_patch_is_dropped_where_nothing_is_padded(extractor, readout):
    """As in SCLIP's code: 50 x 90 pixels are 48 x 80 to patches of 16."""
    image = pixels(50, 90)
    found = patches_of(extractor(readout, pad=False), image)
    assert_close(found, patches_of(extractor(readout), image[..., :48, :80]))
    with pytest.raises(UserError, match='15 x 40 pixels is smaller than a patch of 16; set'):
        patches_of(extractor(readout, pad=False), pixels(40, 15))


def test_early_attention_is_the_blocks_own(extractor):
    tower = extractor('resclip').tower
    assert tower.needed.attentions == {2}  # of three blocks: 6 to 9 of twelve
    trunk = extractor('resclip').trunk(pixels(48, 80))
    assert_close(trunk.early_attention.sum(dim=-1), torch.ones(2, 2, 16))
    assert_close(trunk.tokens, extractor().trunk(pixels(48, 80)).tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize('preset', PRESETS)
def test_presets_batch_by_batch_and_not_square(extractor, preset):
    """No photo's answer depends on its neighbour in the batch; keys are the last block's always."""
    one = extractor(preset)
    text = torch.randn(4, 32, generator=torch.manual_seed(1))
    image = pixels(70, 50)  # padded to 5 x 4 patches
    run = lambda part: one(part, lambda p: torch.einsum('ndhw,cd->nchw', p, text) / 50)  # noqa: E731
    with torch.no_grad():
        both, first, plain = run(image), run(image[:1]), extractor()(image)
    assert both.patches.isfinite().all()
    assert_close(both.patches[:1], first.patches, atol=2e-5, rtol=0)
    parts = 2 if preset == 'proxyclip' else 1  # the proxy's patches are 8 pixels, CLIP's 16
    assert both.patches.shape == (2, 32, 5 * parts, 4 * parts)
    assert one.stride == 16 // parts and both.keys.shape[1] == 20 * parts**2
    if parts == 1:
        assert_close(both.keys, plain.keys, atol=1e-5, rtol=0)
        assert preset == 'maskclip' or (both.patches - plain.patches).abs().max() > 1e-3


def test_feedback_changes_what_text_changes(extractor):
    resclip = extractor(dict(preset='resclip', feedback=dict(threshold=0.0)))
    image = pixels(48, 80)
    with torch.no_grad():
        alone = resclip(image).patches
        halves = torch.zeros(2, 2, 3, 5)
        halves[:, 0, :, :2], halves[:, 1, :, 2:] = 1, 1
        twice = resclip(image, lambda _: halves).patches
        first_only = extractor(dict(preset='resclip', feedback=None))(image).patches
    assert_close(alone, first_only)
    assert not torch.allclose(alone, twice, atol=1e-3)


def test_block_numbers_are_of_twelve():
    assert [block_number(b, 12) for b in (4, 9, 11)] == [4, 9, 11]
    assert [block_number(b, 24) for b in (4, 9, 11)] == [8, 18, 22]  # ViT-L
    assert [block_number(b, 3) for b in (1, 4, 9, 12)] == [1, 1, 2, 2]
    assert blocks_needed(PRESETS['gem'], 12).outputs == {6, 7, 8, 9, 10, 11}
    assert blocks_needed(PRESETS['scclip'], 12).outputs == {4, 5, 6, 7, 8, 9, 10}
    assert blocks_needed(PRESETS['resclip'], 12).attentions == {6, 7, 8, 9}


def test_self_self_without_iterations_by_hand(extractor):
    """GEM of the last block alone: unit queries to unit queries, at a given temperature."""
    settings = dict(blocks=4, iterations=0, temperature=5.0)  # 4 of twelve is 1 of three
    gem = extractor(dict(preset='gem', terms=['q-q'], weights=[], self_self=settings))
    trunk, block = gem.trunk(pixels(48, 80)), gem.tower.visual.transformer.resblocks[-1]
    attn, tokens = block.attn, trunk.tokens
    with torch.no_grad():
        mixed = torch.nn.functional.linear(
            block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias
        )
        query, _, values = mixed.unflatten(2, (3, 2, 32)).permute(2, 0, 3, 1, 4)
        unit = query / query.norm(dim=-1, keepdim=True)
        mixed = (5 * unit @ unit.mT).softmax(dim=-1) @ values
        tokens = tokens + attn.out_proj(mixed.transpose(1, 2).flatten(2))
        expected = gem.tower.visual.ln_post(tokens[:, 1:]) @ gem.tower.visual.proj
    assert_close(patches_of(gem).flatten(2).mT, expected, atol=1e-5, rtol=0)


# Positions


def cubic(line, at, a):
    """(g), places -> the cubic convolution of Keys (1981) there, inside of the ends"""

    def weight(x):
        x = x.abs()
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        return torch.where(x < 1, near, a * (x**3 - 5 * x**2 + 8 * x - 4)) * (x < 2)

    return (weight(at[:, None] - torch.arange(len(line))) * line).sum(dim=1)


@pytest.mark.parametrize(
    'rule, length, a', [('size', 20, -0.75), ('factor', 20.1, -0.75), ('antialias', 20, -0.5)]
)
def test_positions_of_a_line(rule, length, a):
    """Sample i of 20 from 16 lies at (i + 0.5) 16 / 20 - 0.5; 'factor' divides by 20.1."""
    line = torch.randn(16, generator=torch.manual_seed(0))
    rows = torch.cat([torch.zeros(1, 1), line.repeat(16)[:, None]])
    found = resize_positions(rows, (16, 20), rule)[1:].unflatten(0, (16, 20))[8, :, 0]
    places = (torch.arange(20) + 0.5) * 16 / length - 0.5
    assert_close(found[3:17], cubic(line, places, a)[3:17], atol=1e-4, rtol=0)
    assert resize_positions(rows, (16, 16), rule) is rows


# Proxies


@pytest.mark.parametrize(
    'options', [{}, dict(reg_tokens=2, no_embed_class=True), dict(init_values=1)]
)
def test_proxy_is_timms_own_at_its_size(options):
    proxy, view = tiny_proxy(**options), pixels(32, 32)
    mean, std = (tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        expected = proxy.vit.forward_features((view / 255 - mean) / std)
        found = proxy.patches(view, (4, 4))
    assert_close(found, expected[:, proxy.vit.num_prefix_tokens :], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    'patch, stride, parts',
    [(16, 16, 1), (8, 16, 2), (14, 16, 1), (14, 32, 2), (16, 14, 1), (5, 16, 2)],
)
def test_proxy_patches_divide_the_towers(patch, stride, parts):
    assert tiny_proxy(patch).parts_of(stride) == parts


def test_a_proxy_of_other_patches_is_told(caplog):
    tiny_proxy(8).warn_of_resizing(16)
    assert not caplog.messages
    tiny_proxy(14).warn_of_resizing(16)
    assert caplog.messages == [
        "the proxy's patches of 14 pixels do not divide CLIP's of 16: the proxy sees photos "
        'at 0.875 times their size, so that 1 of its patches span one'
    ]


def test_proxy_and_other_terms_share_the_towers_grid(extractor):
    readout = dict(preset='proxyclip', terms=['proxy', 'k-k'], residual=True)
    assert patches_of(extractor(readout)).shape == (2, 32, 3, 5)
    coarse = tiny_proxy()
    coarse.parts = 1
    assert patches_of(extractor('proxyclip', proxy=coarse)).shape == (2, 32, 3, 5)


def test_proxy_weights_by_file(tmp_path):
    from safetensors.torch import save_file

    name, file = 'vit_tiny_patch16_224', tmp_path / 'vit.safetensors'
    random = load_proxy(name, 'random').vit.state_dict()
    others = {'head.weight': torch.zeros(2, 192), 'mask_token': torch.zeros(1, 192)}  # DINOv2's
    save_file(random | others, file)
    loaded = load_proxy(name, str(file)).vit.state_dict()
    assert all(torch.equal(loaded[key], random[key]) for key in random)
    save_file({k: v for k, v in random.items() if k != 'norm.bias'}, file)
    with pytest.raises(UserError, match='does not fit the proxy vit_tiny_patch16_224.*norm.bias'):
        load_proxy(name, str(file))


# What a user may get wrong


@pytest.mark.parametrize(
    'config, told',
    [
        ('sclp', "'sclp' is not known \\(nearest: 'sclip'\\)"),
        (dict(preset='sclip', residul=False), "no key 'residul' \\(nearest: 'residual'\\)"),
        (dict(preset='scclip', repair=dict(quantil=0.9)), "nearest: 'quantile'"),
        (
            dict(terms=['q-z']),
            "readout.terms must be a list, each item 'value', .*, not \\('q-z',\\)",
        ),
        (dict(terms=['q-q', 'k-k'], weights=[1]), '2 terms and 1 weights'),
        (
            dict(terms='layer_similarity', use_cls_token=False),
            "'layer_similarity' needs readout.layers",
        ),
        (dict(terms='proxy'), 'set readout.use_cls_token=False'),
        (dict(preset='gem', terms=['q-k'], weights=[]), 'self_self takes terms such as'),
        (dict(preset='gem', gaussian=5.0), 'self_self and readout.gaussian exclude'),
        (dict(preset='sclip', residual=1.5), 'residual must be True or False, not 1.5'),
        (dict(preset='naclip', gaussian='wide'), "gaussian must be a number .*, not 'wide'"),
        (
            dict(preset='resclip', feedback=dict(smooth='rings')),
            "smooth must be 'grid' or 'rows', not 'rings'",
        ),
        (dict(terms=[]), 'readout.terms is empty'),
        (dict(early_blocks=[6]), 'readout.early_blocks must be a list of 2'),
        (dict(preset='scclip', layers=dict(fused=[4])), 'fused must be a list of 2: .* or None'),
        (
            dict(preset='scclip', layers=dict(fused=[10, 4])),
            'fused is \\(first, last\\), not \\(10, 4\\)',
        ),
        (
            dict(preset='gem', self_self=dict(blocks=99)),
            'blocks must be a whole number from 1 to 12, not 99',
        ),
        (dict(preset='gem', self_self=dict(iterations=-3)), 'a whole number from 0 to .*not -3'),
        (dict(preset='gem', self_self=dict(temperature='x')), "temperature must be a number.*'x'"),
        (dict(early_blocks=['a', 'b']), "readout.early_blocks must be .* a whole number.*'a'"),
        (dict(preset='scclip', weights=['a', 'b']), "readout.weights must be .* a number .*'a'"),
        (dict(preset='scclip', repair=dict(neighbours=3.5)), 'a whole number from 1 .*, not 3.5'),
        (dict(gaussian=5.0), "readout.gaussian needs a term such as 'k-k'"),
        (dict(feedback={}), "readout.feedback needs a term such as 'k-k'"),
        (dict(preset='naclip', terms='near'), "terms must be a list, each item 'value', .*, not"),
        (
            dict(preset='scclip', repair=dict(quantile=95)),
            'quantile must be a number from 0 to 1, not 95',
        ),
        (3, 'must be a name or a dict'),
    ],
)
def test_what_is_wrong_is_told(config, told):
    with pytest.raises(UserError, match=told):
        readout_of(config)


def test_parts_change_or_go_away():
    changed = readout_of(
        dict(preset='scclip', repair=dict(quantile=0.9), layers=None, terms='k-k', weights=[])
    )
    assert changed.repair == dataclasses.replace(PRESETS['scclip'].repair, quantile=0.9)
    assert changed.layers is None and changed.terms == ('k-k',)
    assert readout_of('sclip') == PRESETS['sclip']


def test_towers_without_blocks_and_proxies_without_terms(extractor, tiny_clip):
    visual = tiny_clip('resnet').model.visual
    with pytest.raises(UserError, match='ModifiedResNet ends in an attention pool'):
        CLIPDenseExtractor(visual, mean=MEAN, std=STD, readout=PRESETS['sclip'])
    with pytest.raises(UserError, match='positions must be .*nearest'):
        extractor(positions='antialiased')
    with pytest.raises(UserError, match='needs a proxy, and no other'):
        extractor('sclip', proxy=tiny_proxy())
    with pytest.raises(UserError, match="divisor of the tower's patch of 16"):
        proxy = tiny_proxy()
        proxy.parts = 3
        extractor('proxyclip', proxy=proxy)
    with pytest.raises(UserError, match="timm has no model 'vit_base_patch16_224.dinoo'.*nearest"):
        load_proxy('vit_base_patch16_224.dinoo', 'random')
    with pytest.raises(UserError, match='resnet18 is a ResNet; only plain ViTs'):
        load_proxy('resnet18', 'random')


def test_from_a_config(tmp_path):
    text = torch.nn.functional.normalize(torch.randn(3, 32, generator=torch.manual_seed(1)), dim=1)
    torch.save(text, tmp_path / 'text.pth')

    def model(**backbone):
        torch.manual_seed(0)
        backbone = dict(model=TINY['vit'], pretrained='random') | backbone
        head = dict(text=dict(file=str(tmp_path / 'text.pth')))
        return build_maskclip(backbone=backbone, decode_head=head, vocabulary=['cat', 'dog', 'sky'])

    image = pixels(48, 80)
    plain, sclip = model(), model(readout=dict(preset='sclip', mlp=False))
    assert sclip.backbone.readout == dataclasses.replace(PRESETS['sclip'], mlp=False)
    assert not torch.allclose(plain.scores(image), sclip.scores(image), atol=1e-4)
    steered = model(readout=dict(preset='resclip', feedback=dict(steps=0, threshold=0)))
    once = model(readout=dict(preset='resclip', feedback=None))
    assert not torch.allclose(steered.scores(image), once.scores(image), atol=1e-5)
    proxy = dict(model='vit_tiny_patch16_224', pretrained='random')
    assert model(readout='proxyclip', proxy=proxy).scores(image).shape == (2, 3, 3, 5)
    with pytest.raises(UserError, match="model.backbone.proxy has no key 'modell'"):
        model(readout='proxyclip', proxy=dict(modell='x'))
