"""The rendered world, CLIP from scratch on it, and the whole method as a regression."""

import sys

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, load_tool
from PIL import Image
from test_tools import result_of, run_test

from mmseg.apis.test import require_data
from mmseg.apis.test import test as evaluate
from mmseg.apis.train import train
from mmseg.clip import load_clip, text_embeddings
from mmseg.clip.state_dict import prune_vocabulary, restore_vocabulary
from mmseg.datasets.miniature import LABELS, MiniatureDataset, caption, render
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.evaluation import RetrievalMetric
from mmseg.evaluation.functional import name_the_same
from mmseg.labelling.command import main as label
from mmseg.models import build_maskclip, build_masked_autoencoder, contrastive_loss
from mmseg.vocabularies import load_vocabulary

CONFIGS = ROOT / 'configs' / 'miniature'
# mIoU in per cent on the first 200 test scenes, of the towers that come with the code.
FIGURES = dict(
    maskclip_rn=47.35,
    maskclip_text_rn=49.64,
    best_labels_rn=59.64,
    maskclip_vit=38.29,
    maskclip_text_vit=42.18,
)


def scenes(number, seed=0):
    return [render(np.random.default_rng((seed, i))) for i in range(number)]


def test_the_world_repeats_itself_and_its_masks_are_exact():
    first, again = scenes(3), scenes(3)
    for a, b in zip(first, again):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)
        assert a.image.shape == (64, 64, 3) and a.image.dtype == np.uint8
    assert load_vocabulary('miniature').labels == LABELS
    masks = np.stack([scene.mask for scene in scenes(200)])
    assert set(np.unique(masks)) == set(range(len(LABELS)))


def test_captions_name_what_is_there_and_nothing_else():
    named = 0
    for i, scene in enumerate(scenes(200)):
        sentence, names = caption(np.random.default_rng(i), scene)
        words = set(sentence.replace('.', '').split())
        assert list(names) == sorted(names) and all(name in sentence for name in names)
        there = {LABELS[k] for k in np.unique(scene.mask)}
        assert words & set(LABELS) <= there
        named += len(words & set(LABELS)) / len(there)
    assert 0.75 < named / 200 < 0.95


def test_no_mask_reaches_the_training_of_clip():

    config = load_config(CONFIGS / 'clip_vit.py')
    sample = require_data(config.train_dataloader)[5]['data_samples']
    assert 'gt_sem_seg' not in sample and sample.caption
    images = load_config(CONFIGS / 'proxy_vit.py')
    sample = require_data(images.train_dataloader)[5]['data_samples']
    assert 'gt_sem_seg' not in sample and 'caption' not in sample
    student = load_config(CONFIGS / 'maskclip_plus_rn_segformer_b0.py')
    sample = require_data(student.train_dataloader)[5]['data_samples']
    assert (sample.gt_sem_seg == -1).all()


def test_contrastive_loss_against_open_clip():
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(5, 4), dim=1) for _ in range(2))
    positive = name_the_same(list('abcde'), 'cpu')
    found = contrastive_loss(10 * image @ text.T, positive)
    torch.testing.assert_close(found['loss_clip'], open_clip.ClipLoss()(image, text, 10.0))
    same = name_the_same(list('aabcd'), 'cpu')
    assert same[0].tolist() == same[1].tolist() == [True, True, False, False, False]
    perfect = torch.where(same, 50.0, 0.0)
    assert contrastive_loss(perfect, same)['loss_clip'] == pytest.approx(2 * np.log(2) / 5)


def test_the_autoencoder_draws_from_what_it_sees_and_is_judged_on_the_rest():
    torch.manual_seed(0)
    model = build_masked_autoencoder('test_vit', patch=4, side=4, keep=0.25).eval()
    image = torch.rand(2, 3, 16, 16) * 255
    seen = model.choose(image)
    assert seen.shape == (2, 4) and seen[0].unique().numel() == 4
    whole = torch.zeros(2, 16).scatter(1, seen, 1).view(2, 1, 4, 4)
    visible = whole.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    other = torch.where(visible > 0, image, 255 - image)
    # the proxy sees patches of 16 pixels, whose edges its resizing mixes with their neighbours
    model.proxy.embed, embed = lambda x, grid: embed(nearest_pixels(x), grid), model.proxy.embed
    with torch.no_grad():
        torch.testing.assert_close(model.draw(other, seen), model.draw(image, seen))
        model.choose = lambda image: seen
        drawn, targets = model.draw(image, seen), model.targets(image)
        found = model([*image])['loss_drawn']
    rest = torch.ones(2, 16).scatter(1, seen, 0).bool()
    torch.testing.assert_close(found, (drawn - targets)[rest].square().mean())
    first = image[0, :, :4, 4:8].flatten()
    torch.testing.assert_close(targets[0, 1], F.layer_norm(first, first.shape))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_the_autoencoder_trains_in_mixed_precision(dtype):
    model = build_masked_autoencoder('test_vit', patch=4, side=4)
    images = [*torch.randint(0, 256, (2, 3, 16, 16), generator=torch.manual_seed(0))]
    seen = torch.tensor([[0, 5, 10], [3, 4, 15]])
    model.choose = lambda image: seen
    expected = model(images)['loss_drawn']
    with torch.autocast('cpu', dtype):
        loss = model(images)['loss_drawn']
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert model.hidden.grad.any() and model.proxy.vit.patch_embed.proj.weight.grad.any()


def nearest_pixels(image):
    """(N, 3, 16, 16) -> (N, 3, 64, 64)"""
    return image.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def test_retrieval_by_hand():
    rows = torch.eye(3)
    metric = RetrievalMetric()
    images = [rows[0], rows[1], rows[0]]
    texts = [rows[0], rows[1], rows[2]]
    metric.results = list(zip('abc', images, texts))
    assert metric.compute_metrics(metric.results) == {'R@1': 0.6667, 'R@5': 1.0}
    metric.results = list(zip('aba', images, texts))  # the third finds the first's, equal in words
    assert metric.compute_metrics(metric.results) == {'R@1': 1.0, 'R@5': 1.0}


def test_a_compact_tower_knows_its_words_and_no_others(tmp_path):
    clip = load_clip('miniature-rn', 'random')
    state = clip.model.state_dict()
    small = prune_vocabulary(state, ['a circle and grass.'])
    assert small['token_embedding.weight'].shape == (8, 64)  # start, 5, end, padding
    whole = restore_vocabulary(small)
    assert whole.keys() == state.keys()
    ids = open_clip.tokenize(['grass'])[0, :3]
    expected = state['token_embedding.weight'][ids].half()
    assert torch.equal(whole['token_embedding.weight'][ids], expected)
    with pytest.raises(UserError, match='never learned the words dog'):
        text_embeddings(load_clip('miniature-rn', 'miniature'), load_vocabulary(['dog']), 'name')


@pytest.mark.parametrize('name', FIGURES)
def test_figures_of_the_method(name, tmp_path):
    options = ['--cfg-options', 'test_dataloader.dataset.scenes=200']
    assert run_test(CONFIGS / f'{name}.py', '--work-dir', tmp_path, *options) == 0
    assert 100 * result_of(tmp_path)['metric']['mIoU'] == pytest.approx(FIGURES[name], abs=0.1)


def test_a_student_beats_its_labels(tmp_path):
    """MaskCLIP+'s observation, by a shorter training on fewer scenes than the shipped one."""
    leaf, labels = tmp_path / 'student.py', tmp_path / 'labels'
    leaf.write_text(
        f"""_base_ = '{CONFIGS / 'maskclip_plus_rn_resnet10.py'}'
pseudo_labels = '{labels}'
train_cfg = dict(max_iters=120)
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(scenes=500))
test_dataloader = dict(dataset=dict(scenes=200))
"""
    )
    teacher = CONFIGS / 'best_labels_rn.py'
    label([str(teacher), '--photos-of', str(leaf), '--batch', '50', '--out', str(labels)])
    train(load_config(leaf), work_dir=tmp_path / 'run', seed=0, validate=False)
    found = evaluate(load_config(leaf), tmp_path / 'run' / 'latest.pth', work_dir=tmp_path)
    assert 100 * found['mIoU'] > FIGURES['best_labels_rn'] + 1.5


def test_the_value_path_beats_plain_tokens():
    """MaskCLIP's observation: the last attention mixes places, its values do not."""
    model = build_maskclip(
        backbone=dict(model='miniature-vit', pretrained='miniature'),
        decode_head=dict(text=dict(templates='miniature')),
        vocabulary='miniature',
    )
    visual, text = model.backbone.tower.visual, model.decode_head.conv_seg.embeddings
    right = dict(values=0, tokens=0)
    for scene in scenes(100, seed=1):
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()
        values = model.scores(image)
        image = (image - model.backbone.mean) / model.backbone.std
        with torch.no_grad():
            trunk, grid = model.backbone.tower.trunk(image)[:2]
            tokens = visual.ln_post(visual.transformer.resblocks[-1](trunk)[:, 1:]) @ visual.proj
        tokens = F.normalize(tokens, dim=-1) @ text.T
        for name, scores in (('values', values), ('tokens', tokens.mT.unflatten(2, grid))):
            labels = F.interpolate(scores, (64, 64), mode='bilinear').argmax(dim=1)[0]
            right[name] += (labels.numpy() == scene.mask).mean()
    assert right['values'] > right['tokens'] + 2


def test_rows_of_the_data_set_are_names_of_scenes():
    dataset = MiniatureDataset(scenes=3, world=7)
    row = dataset.get_data_info(2)
    assert row['img_path'] == 'miniature/7/00002.png'
    again = dataset.draw(row['img_path'])
    assert np.array_equal(np.asarray(dataset.read(row['img_path'])), again.image)
    kept = MiniatureDataset(scenes=3, world=7, keep=True)
    assert kept.draw(row['img_path']) is kept.draw(row['img_path'])
    assert np.array_equal(kept.draw(row['img_path']).image, again.image)


def test_contact_sheet_of_a_data_set(tmp_path, monkeypatch, capsys):
    tool = load_tool('browse_dataset')
    options = ['--number', '5', '--columns', '3', '--size', '80', '--out', tmp_path / 'a.png']
    arguments = ['tool', CONFIGS / 'maskclip_rn.py', *options]
    monkeypatch.setattr(sys, 'argv', [str(a) for a in arguments])
    tool.main()
    assert '5 of 500 photos' in capsys.readouterr().out
    sheet = np.asarray(Image.open(tmp_path / 'a.png'))
    first = MiniatureDataset(scenes=500, world=1).draw('miniature/1/00000.png')
    photo = np.asarray(Image.fromarray(first.image).resize((80, 80), Image.Resampling.BILINEAR))
    assert sheet.shape[1] > 3 * 160 and sheet.shape[0] > 2 * 80
    assert abs(sheet[22:102, :80].astype(int) - photo).mean() < 8  # below its title


def test_the_tool_shows_every_row_in_a_table_and_a_picture(tmp_path, monkeypatch, capsys):
    tool = load_tool('miniature')
    few = 'test_dataloader = dict(dataset=dict(scenes=31))\n'  # the last one of the picture is 30
    for name in (*tool.TEACHERS.values(), tool.STUDENT):
        text = f"_base_ = '{CONFIGS / name}.py'\n{few}"
        if name == tool.STUDENT:
            text += few.replace('test', 'train').replace('31', '32')
        (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.setattr(tool, 'CONFIGS', tmp_path)
    run = tmp_path / 'run'
    monkeypatch.setattr(sys, 'argv', ['tool', '--iterations', '2', '--work-dir', str(run)])
    tool.main()
    table = capsys.readouterr().out.partition('photos/s')[2].splitlines()[1:5]
    found = [float(line[18:].split()[0]) for line in table]
    assert found[0] < found[1] < found[2] and len(found) == 4
    picture = np.asarray(Image.open(run / 'miniature.png'))
    assert picture.shape[0] > 5 * 128 and picture.shape[1] > 6 * 128
