"""Pseudo-labels, losses, random transforms and students, by hand-sized examples and referees."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import run_script
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from PIL import Image
from transformers import SegformerConfig, SegformerForImageClassification, SegformerModel

from mmseg.datasets import LoadAnnotations
from mmseg.datasets.transforms import (
    PhotoMetricDistortion,
    RandomCrop,
    RandomFlip,
    RandomResize,
    Unlabeled,
)
from mmseg.engine.train_hooks import leaked_classes
from mmseg.errors import UserError
from mmseg.evaluation.functional import zero_shot_scores
from mmseg.models import (
    DepthwiseSeparableASPPHead,
    TextClassifier,
    build_mit,
    build_timm_backbone,
    fill_unlabeled,
)
from mmseg.models.backbones import MixVisionTransformer
from mmseg.models.backbones.mit import HEADS, REDUCTIONS, SIZES
from mmseg.models.checkpoints import _from_hub, from_original, to_mmseg
from mmseg.models.decode_heads import DecodeHead
from mmseg.models.losses import distance
from mmseg.models.maskclip_plus import MaskClipPlus
from mmseg.models.phase import within
from mmseg.structures import SegDataSample
from mmseg.utils.checkpoint import read_state
from mmseg.utils.tensors import stack_padded


def rng(seed=0):
    return np.random.default_rng(seed)


# Pseudo-labels

TARGET = torch.tensor([[[-1, 0, 255], [-1, 2, -1]]])
SCORES = torch.zeros(1, 3, 2, 3)
SCORES[0, 1] = 0.01
SCORES[0, 2, 1] = 0.5


def test_only_unlabelled_pixels_change():
    before = TARGET.clone()
    assert fill_unlabeled(TARGET, SCORES)[0].tolist() == [[[1, 0, 255], [2, 2, 2]]]
    assert torch.equal(TARGET, before)
    labelled = TARGET.clamp(min=0)
    assert torch.equal(fill_unlabeled(labelled, SCORES)[0], labelled)


def test_candidates_restrict_pseudo_labels():
    assert fill_unlabeled(TARGET, SCORES, [0, 1])[0].tolist() == [[[1, 0, 255], [1, 2, 1]]]


def test_a_threshold_erases_unsure_pseudo_labels_and_nothing_else():  # Q10
    found, _ = fill_unlabeled(TARGET, SCORES, threshold=0.9)
    assert found.tolist() == [[[-1, 0, 255], [2, 2, 2]]]
    logits, _ = fill_unlabeled(TARGET, 4 * SCORES, threshold=0.9, scale=1.0)  # e^2 of e^2 + 2
    assert logits.tolist() == [[[-1, 0, 255], [-1, 2, -1]]]
    given, _ = fill_unlabeled(TARGET, SCORES, threshold=0.5, scale=None)
    assert given.tolist() == [[[-1, 0, 255], [2, 2, 2]]]


@pytest.mark.parametrize(
    'phase, steps', [((1, -1), {1, 2, 9}), ((-1, -1), set()), ((2, 8), {2}), ((3, -1), {9})]
)
def test_phases(phase, steps):
    assert {step for step in (1, 2, 9) if within(step, phase)} == steps


# Losses


def student(**options):
    head = DecodeHead(3, torch.nn.Identity())
    return MaskClipPlus(torch.nn.Identity(), head, mean=(0.5,) * 3, std=(0.2,) * 3, **options)


def test_loss_over_labelled_or_over_all_pixels():  # Q14
    scores, target = torch.randn(1, 3, 2, 3), torch.tensor([[[0, 1, 255], [255, 2, 255]]])
    labelled = student().loss_against(scores, target)
    every = student(loss_over='all').loss_against(scores, target)
    expected = F.cross_entropy(scores, target, ignore_index=255)
    torch.testing.assert_close(labelled['loss_ce'], expected)
    torch.testing.assert_close(every['loss_ce'], expected * 3 / 6)
    torch.testing.assert_close(every['acc_seg'], labelled['acc_seg'] * 3 / 6)


def test_a_batch_without_labels_has_no_loss():
    loss = student().loss_against(torch.randn(1, 3, 2, 3), torch.full((1, 2, 3), 255))
    assert loss['loss_ce'] == 0 and loss['acc_seg'] == 0


def test_padding_is_zero_behind_the_normalisation():
    model, images = student(), [torch.zeros(3, 2, 4).byte(), torch.zeros(3, 3, 2).byte()]
    batch = (stack_padded(images, model.mean) - model.mean) / model.std
    assert batch.shape == (2, 3, 3, 4)
    assert (batch[0, :, 2] == 0).all() and (batch[1, :, :, 2:] == 0).all()
    assert (batch[0, :, :2] != 0).all()
    targets = stack_padded([torch.zeros(2, 4), torch.zeros(3, 2)], torch.full((1, 1), 255))
    assert targets.dtype == torch.int64 and (targets == 255).sum() == 4 + 6


class Pixels(DecodeHead):
    """A head whose logits are the normalised image."""

    def forward_features(self, image):
        return image


@pytest.mark.parametrize('pad_to', [None, 8])
def test_published_crops_are_padded_to_the_crop_size(pad_to):  # Q23
    head = Pixels(3, torch.nn.Identity(), dropout=0.0)
    options = dict(mean=(0.5,) * 3, std=(0.2,) * 3, loss_over='all', pad_to=pad_to)
    model = MaskClipPlus(torch.nn.Identity(), head, start_clip_guided=(-1, -1), **options)
    images = list(torch.randint(0, 256, (2, 3, 4, 6), generator=torch.manual_seed(0)).byte())
    samples = [SegDataSample() for _ in images]
    for sample, target in zip(samples, torch.randint(0, 3, (2, 4, 6))):
        sample.gt_sem_seg = target
    scores = (torch.stack(images) / 255 - 0.5) / 0.2
    target = torch.stack([sample.gt_sem_seg for sample in samples])
    expected = F.cross_entropy(scores, target, reduction='sum') / (2 * (8 * 8 if pad_to else 4 * 6))
    torch.testing.assert_close(model.loss(images, samples, step=1)['loss_ce'], expected)
    padded = stack_padded(images, model.mean, least=pad_to)
    assert padded.shape[2:] == ((8, 8) if pad_to else (4, 6))


# Random transforms


def sample(height=60, width=80, labels=(0, 1)):
    values = np.resize(np.array(labels, np.int16), (height, width))
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = values * 100
    return dict(img=image, gt_sem_seg=values, ori_shape=(height, width), num_classes=2, rng=rng())


def test_unlabeled_reads_no_mask():  # Q11
    found = Unlabeled()(dict(ori_shape=(3, 4), seg_map_path='nowhere.png'))['gt_sem_seg']
    assert found.shape == (3, 4) and (found == -1).all()
    row = dict(ori_shape=(3, 4), seg_map_path=None)
    assert (LoadAnnotations('all')(row)['gt_sem_seg'] == -1).all()


def test_suppressed_labels_become_unlabelled(golden):
    expected = json.loads((golden / 'labels.json').read_text())
    for name, histograms in expected.items():
        path = str(golden / 'masks' / f'{name}.png')
        shape = np.asarray(Image.open(path)).shape
        row = dict(seg_map_path=path, ori_shape=shape, num_classes=59, reduce_zero_label=True)
        for suppressed, key in (('all', 'all'), (list(range(30)), '0_29')):
            mask = LoadAnnotations(suppressed)(dict(row))['gt_sem_seg']
            values, counts = np.unique(mask, return_counts=True)
            found = {str(v): int(c) for v, c in zip(values, counts)}
            assert found == histograms[f'reduce_suppress_{key}']['hist']


def test_image_and_target_move_together():
    for transform in (RandomResize((64, 64), (0.5, 2.0)), RandomCrop(32), RandomFlip(1.0)):
        row = sample()
        row['img'] = np.repeat(row['gt_sem_seg'][..., None].astype(np.uint8) * 100, 3, axis=2)
        found = transform(row)
        assert found['img'].shape[:2] == found['gt_sem_seg'].shape
        if not isinstance(transform, RandomResize):
            assert np.array_equal(found['img'][..., 0], found['gt_sem_seg'] * 100)


def test_random_resize_covers_its_range():
    sides = [
        max(RandomResize((64, 64), (0.5, 2.0))(sample() | dict(rng=rng(s)))['img'].shape)
        for s in range(200)
    ]
    assert min(sides) < 40 and max(sides) > 120 and 32 <= min(sides) <= max(sides) <= 128


class CountingCrop(RandomCrop):
    draws = 0

    def _draw(self, shape, rng):
        self.draws += 1
        return super()._draw(shape, rng)


@pytest.mark.parametrize(
    'labels, options, draws',
    [
        ((0, 1), {}, 1),  # half and half: varied at once
        ((0, 0), {}, 11),  # one class fills every window
        ((-1, -1), {}, 1),  # nothing labelled: nothing to vary (Q12)
        ((-1, -1), dict(count_unlabeled=True), 11),  # as published
    ],
)
def test_crop_is_drawn_again_while_one_class_fills_it(labels, options, draws):
    crop = CountingCrop(32, cat_max_ratio=0.75, **options)
    crop(sample(labels=labels))
    assert crop.draws == draws


def test_distortion_changes_colours_within_bounds_and_repeats():
    row = sample() | dict(img=rng(1).integers(0, 256, (20, 30, 3), np.uint8))
    transform = PhotoMetricDistortion()
    several = [transform(dict(row, rng=rng(s)))['img'] for s in range(8)]
    assert all(image.dtype == np.uint8 and image.shape == (20, 30, 3) for image in several)
    assert sum(np.array_equal(image, row['img']) for image in several) < 3
    assert np.array_equal(several[3], transform(dict(row, rng=rng(3)))['img'])
    still = PhotoMetricDistortion(0, (1, 1), (1, 1), 0)(dict(row, rng=rng(0)))['img']
    assert np.abs(still.astype(int) - row['img']).max() <= 6  # HSV and back rounds


# Students


@pytest.mark.parametrize('size', ['b0', 'b5'])
def test_mit_against_transformers(size):
    """The same tensors in transformers' Segformer encoder, which names them otherwise."""
    width, depths = SIZES[size]
    config = SegformerConfig(
        depths=list(depths),
        hidden_sizes=[width * heads for heads in HEADS],
        num_attention_heads=list(HEADS),
        sr_ratios=list(REDUCTIONS),
        layer_norm_eps=1e-6,
    )
    torch.manual_seed(0)
    ours, theirs = MixVisionTransformer(size).eval(), SegformerModel(config).eval()
    own, state = ours.state_dict(), {}
    for name in theirs.state_dict():
        state[name] = _theirs(name, own)
    theirs.load_state_dict(state)
    for module in theirs.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6  # SegFormer's; transformers leaves some at 1e-5
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = ours(image)
        expected = theirs(image, output_hidden_states=True).hidden_states
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_mit_files_of_every_layout(tmp_path):
    """transformers' own writer, NVIDIA's names, ours: one network."""
    width, depths = SIZES['b0']
    config = SegformerConfig(
        depths=list(depths),
        hidden_sizes=[width * heads for heads in HEADS],
        num_attention_heads=list(HEADS),
        sr_ratios=list(REDUCTIONS),
    )
    SegformerForImageClassification(config).save_pretrained(tmp_path)
    hub = read_state(tmp_path / 'model.safetensors')
    ours = to_mmseg(hub)
    theirs = _from_hub({name.removeprefix('segformer.'): t for name, t in hub.items()})
    assert theirs['block1.0.attn.kv.weight'].shape == (2 * width, width)
    assert theirs['block1.0.mlp.fc1.weight'].shape == (4 * width, width)
    for name in ('patch_embed1.proj.weight', 'block2.1.mlp.dwconv.dwconv.bias', 'norm4.weight'):
        assert name in theirs
    torch.save(theirs, tmp_path / 'mit_b0.pth')
    files = [tmp_path / 'mit_b0.pth', tmp_path / 'ours.pth']
    assert run_script('model_converters/mit2mmseg', *files) == 0
    again = torch.load(tmp_path / 'ours.pth', weights_only=True)
    assert again.keys() == ours.keys() and all(torch.equal(again[k], ours[k]) for k in ours)
    for file in ('model.safetensors', 'mit_b0.pth', 'ours.pth'):
        network = build_mit('b0', pretrained=str(tmp_path / file))
        assert torch.equal(network.layers[3][2].weight, ours['layers.3.2.weight'])


def test_what_is_no_mit_is_named(tmp_path):
    (tmp_path / 'page.pth').write_text('<!DOCTYPE html><title>Sign in</title>')
    (tmp_path / 'lfs.pth').write_text('version https://git-lfs.github.com/spec/v1')
    torch.save(
        {'layer1.0.conv1.weight': torch.ones(1), 'layer4.0.x': torch.ones(1)}, tmp_path / 'r.pth'
    )
    for file, words in (
        ('page.pth', 'a web page'),
        ('lfs.pth', 'LFS pointer'),
        ('r.pth', 'a ResNet'),
    ):
        with pytest.raises(UserError, match=words):
            build_mit('b0', pretrained=str(tmp_path / file))


def test_a_frozen_backbone_keeps_weights_and_statistics():
    backbone = build_timm_backbone('resnet10t', pretrained=False, frozen=True).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    outputs = backbone(torch.randn(2, 3, 64, 64))
    assert not outputs[-1].requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(
    'name, channels, strides',
    [
        ('mobilenetv3_small_100', (16, 24, 48, 576), (4, 8, 16, 32)),  # timm's first has stride 2
        ('dla34', (64, 128, 256, 512), (4, 8, 16, 32)),  # timm numbers its outputs from 1
        ('convnext_atto', (40, 80, 160, 320), (4, 8, 16, 32)),  # timm's own four
        ('test_vit', (64, 64, 64), (16, 16, 16)),
    ],
)
def test_a_timm_backbone_chooses_its_outputs(name, channels, strides, caplog):
    backbone = build_timm_backbone(name, pretrained=False)
    assert backbone.channels == channels and not caplog.records
    with torch.no_grad():
        outputs = backbone.eval()(torch.zeros(1, 3, 160, 160))
    assert [out.shape[1:] for out in outputs] == [
        (c, 160 // s, 160 // s) for c, s in zip(channels, strides)
    ]


def test_an_output_of_stride_2_is_warned_of(caplog):
    backbone = build_timm_backbone('mobilenetv3_small_100', pretrained=False, out_indices=(0, 4))
    assert backbone.channels == (16, 576)
    assert 'a cell every 2 pixels, so time and memory of the head are about 4' in caplog.text


@pytest.mark.parametrize('stem', ['plain', 'deep'])
def test_resnet101_at_stride_8_against_torchvision(stem):
    """torchvision's resnet101 with dilations for strides; V1c's stem is three convolutions."""
    torch.manual_seed(0)
    name = dict(plain='resnet101', deep='resnet101c')[stem]
    ours = build_timm_backbone(name, pretrained=False, output_stride=8, out_indices=(1, 4)).eval()
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that matter
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    state = ours.body.state_dict()
    theirs = torchvision.models.resnet101(replace_stride_with_dilation=(False, True, True)).eval()
    if stem == 'deep':
        theirs.conv1 = deep_stem().eval()
    theirs.load_state_dict({k: state.get(k, v) for k, v in theirs.state_dict().items()})
    assert set(state) <= set(theirs.state_dict())
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        shallow = theirs.layer1(x)
        deep = theirs.layer4(theirs.layer3(theirs.layer2(shallow)))
        found = ours(image)
    for a, b in zip(found, (shallow, deep)):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def deep_stem():
    conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
    parts = [
        conv(3, 32, 3, 2, 1, bias=False),
        norm(32),
        torch.nn.ReLU(),
        conv(32, 32, 3, 1, 1, bias=False),
        norm(32),
        torch.nn.ReLU(),
        conv(32, 64, 3, 1, 1, bias=False),
    ]
    return torch.nn.Sequential(*parts)


def test_deeplabv3plus_head_by_hand():
    """With 1x1 maps every dilation sees its centre alone, and the pooled map is the map itself."""
    torch.manual_seed(0)
    head = DepthwiseSeparableASPPHead((8, 16), 4, torch.nn.Identity(), c1_channels=2).eval()
    shallow, deep = torch.randn(1, 8, 1, 1), torch.randn(1, 16, 1, 1)
    with torch.no_grad():
        branches = [head.image_pool(deep)] + [branch(deep) for branch in head.aspp_modules]
        middle = head.bottleneck(torch.cat(branches, dim=1))
        fused = torch.cat([middle, head.c1_bottleneck(shallow)], dim=1)
        expected = head.sep_bottleneck(fused)
        torch.testing.assert_close(head([shallow, deep]), expected)
        centre = head.aspp_modules[2].depthwise_conv.conv.weight[:, 0, 1, 1]
        folded = head.aspp_modules[2].depthwise_conv.conv(deep).flatten()
        torch.testing.assert_close(folded, deep.flatten() * centre)
        assert head([torch.randn(1, 8, 12, 16), torch.randn(1, 16, 6, 8)]).shape == (1, 4, 12, 16)


# A learned background, zero-shot


def test_learned_rows_are_unit_vectors_in_place_of_text():
    text = F.normalize(torch.randn(3, 5), dim=1)
    classifier = TextClassifier(text, normalize=False, learned=(0,))
    rows = classifier.rows()
    assert torch.equal(rows[1:], text[1:])
    torch.testing.assert_close(rows[0], F.normalize(classifier.learned[0], dim=0))
    classifier(torch.randn(1, 5, 2, 2)).sum().backward()
    assert classifier.learned.grad.abs().sum() > 0


def test_an_original_background_comes_before_the_text():
    state = {
        'decode_head.decode_module.convs.0.bn.bias': torch.zeros(1),
        'decode_head.text_embeddings': torch.ones(2, 3),
        'decode_head.bg_embeddings': torch.zeros(1, 3),
    }
    own = from_original(state)
    assert own['decode_head.conv_seg.embeddings'].tolist() == [[0] * 3, [1] * 3, [1] * 3]
    assert own['decode_head.conv_seg.learned'].shape == (1, 3)


def test_unseen_classes_are_hidden_and_counted_apart():
    row = dict(seg_map_path=None, ori_shape=(2, 2), unseen=(1,), num_classes=3)
    assert (LoadAnnotations('unseen')(row)['gt_sem_seg'] == -1).all()
    iou = torch.tensor([0.5, 0.2, float('nan'), 0.7])
    found = zero_shot_scores(iou, (1, 2))
    assert found['mIoU_seen'] == pytest.approx(0.6) and found['mIoU_unseen'] == pytest.approx(0.2)
    assert found['hIoU'] == pytest.approx(2 * 0.6 * 0.2 / 0.8)
    assert zero_shot_scores(iou, ()) == zero_shot_scores(iou, range(4)) == {}
    assert leaked_classes(torch.tensor([[-1, 0], [255, 2]]), (1, 2)) == [2]
    assert leaked_classes(torch.full((2, 2), -1), range(59)) == []


# Distillation, groups


def test_distance_to_the_teachers_unit_features():
    features, dense = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    dense[:, 0] = 5.0  # unit length: (1, 0)
    labelled = torch.tensor([[[True, False], [True, True]]])
    assert distance(features, dense, labelled) == pytest.approx(3 * 0.5)  # |(0, 0) - (1, 0)| / 2
    features[:, 0, 0, 1] = 100.0  # void
    assert distance(features, dense, labelled) == pytest.approx(3 * 0.5)
    features[:, 0, 0, 0] = 3.0
    labelled = torch.eye(4).bool()[None]  # two of the four pixels of two cells
    assert distance(features, dense, labelled) == pytest.approx(2 * 1.0 + 2 * 0.5)


def test_only_matrices_decay_and_the_head_learns_faster():
    model = torch.nn.ModuleDict(
        dict(backbone=torch.nn.Linear(2, 2), decode_head=torch.nn.BatchNorm1d(2))
    )
    settings = dict(
        type='OptimWrapper',
        constructor='MatrixDecayConstructor',
        optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.5),
        paramwise_cfg=dict(lr_mult=dict(decode_head=10.0)),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        groups = build_optim_wrapper(model, settings).optimizer.param_groups
        settings['paramwise_cfg'] = dict(lr_mult=dict(decode_haed=10.0))
        with pytest.raises(UserError, match="no parameter starts with 'decode_haed'"):
            build_optim_wrapper(model, settings)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[g['params'][0]]: (g['lr'], g['weight_decay']) for g in groups} == {
        'backbone.weight': (0.1, 0.5),
        'backbone.bias': (0.1, 0.0),
        'decode_head.weight': (1.0, 0.0),
        'decode_head.bias': (1.0, 0.0),
    }


def test_muon_steps_the_matrices_of_blocks_and_adamw_the_rest():
    """One step without decay: Muon's has equal singular values, AdamW's moves all alike."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(dict(block=torch.nn.Linear(8, 8), embedding=torch.nn.Linear(8, 8)))
    settings = dict(
        type='OptimWrapper',
        constructor='MatrixDecayConstructor',
        optimizer=dict(type='MuonAdamW', lr=0.01, weight_decay=0.0),
        paramwise_cfg=dict(adamw=['embedding']),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        optimizer = build_optim_wrapper(model, settings).optimizer
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sum(layer(torch.randn(64, 8)).square().sum() for layer in model.values()).backward()
    optimizer.step()
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    scale = 0.01 * 0.2 * 8**0.5  # of Liu et al.
    singular = torch.linalg.svdvals(moved['block.weight']) / scale
    assert 0.6 < singular.min() and singular.max() < 1.3
    for name in ('block.bias', 'embedding.weight', 'embedding.bias'):
        size = moved[name].abs()
        assert size.min() > 0.99 * size.max()
        assert size.max().item() == pytest.approx(0.002 * (1 + 0.9), rel=0.02)


PARTS = {
    'layernorm_before': 'norm1',
    'layernorm_after': 'norm2',
    'attention.o_proj': 'attn.attn.out_proj',
    'attention.sequence_reduction.sequence_reduction': 'attn.sr',
    'attention.sequence_reduction.layer_norm': 'attn.norm',
    'mlp.fc1': 'ffn.layers.0',
    'mlp.dwconv.dwconv': 'ffn.layers.1',
    'mlp.fc2': 'ffn.layers.4',
}


def _theirs(name, own):
    """A name of transformers' encoder -> our tensor of that place."""
    _, stage, kind, *rest, end = name.split('.')
    if kind == 'patch_embeddings':
        return own[f'layers.{stage}.0.{dict(proj="projection", layer_norm="norm")[rest[0]]}.{end}']
    if kind == 'layer_norm':
        return own[f'layers.{stage}.2.{end}']
    block, part = f'layers.{stage}.1.{rest[0]}', '.'.join(rest[1:])
    if part in PARTS:
        tensor = own[f'{block}.{PARTS[part]}.{end}']
        return tensor.flatten(1) if part in ('mlp.fc1', 'mlp.fc2') and end == 'weight' else tensor
    place = ['attention.q_proj', 'attention.k_proj', 'attention.v_proj'].index(part)
    return own[f'{block}.attn.attn.in_proj_{end}'].chunk(3)[place]
