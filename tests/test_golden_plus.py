"""MaskCLIP+ leaves against the original's students on the same weights, at test and in training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg.engine import load_config
from mmseg.models import build_maskclip_plus, labels_at_photo_size
from mmseg.models.original_names import from_original, is_original
from mmseg.structures import SegDataSample

LEAVES = Path(__file__).parent.parent / 'configs' / 'maskclip_plus' / 'anno_free'
NAMES = dict(
    dlv2='deeplabv2_r101-d8_480x480_4k',
    dlv2_cw='deeplabv2_r101-d8_class_weight_480x480_4k',
    segformer_b0='segformer_b0_480x480_8k',
    segformer_b5='segformer_b5_480x480_8k',
)
TEACHERS = dict(vit16='vit16', rn50='r50')


@pytest.fixture(scope='module')
def build(golden, hashed, hashed_clip, tmp_path_factory):
    """(student, teacher) -> the leaf's model with the checkpoint of the original's names."""
    text = np.load(golden / 'text.npz')
    folder = tmp_path_factory.mktemp('text')

    def rows(name):
        np.save(folder / f'{name}.npy', text[name])
        return dict(file=str(folder / f'{name}.npy'))

    def make(student, teacher):
        leaf = f'maskclip_plus_{TEACHERS[teacher]}_{NAMES[student]}_pascal_context_59.py'
        model = load_config(LEAVES / leaf).model
        model.backbone.pretrained = None
        if student.startswith('segformer'):
            model.backbone.drop_path = 0.0  # as in the golden training pass
        model.decode_head.dropout = 0.0
        model.teacher.backbone.pretrained = hashed_clip(teacher)
        model.teacher.decode_head.text = rows(f'{teacher}_head')
        if 'class_weight' in model:
            model.class_weight.text = rows('vit16_weigher')
            model.class_weight.weigher.pretrained = hashed_clip('vit16')
        model.pop('type')
        built = build_maskclip_plus(**model)
        state = hashed.load(golden / f'keys_plus_{student}_{teacher}.json')
        state = {name: torch.from_numpy(value) for name, value in state.items()}
        state['decode_head.text_embeddings'] = torch.from_numpy(text[f'{teacher}_head'])
        assert is_original(state)
        built.load_state_dict(from_original(state))  # strict
        return built.eval()

    return make


@pytest.fixture(scope='module')
def photo(golden):
    image = torch.from_numpy(np.asarray(Image.open(golden / 'p1_resized.png')).copy())
    return image.permute(2, 0, 1)


@pytest.fixture(scope='module')
def view(golden):
    from mmseg.datasets import LoadImage

    loaded = LoadImage()(dict(img_path=str(golden / '2008_000042.jpg'), clip_view=224))
    return torch.from_numpy(loaded['view'].copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    'student, teacher',
    [
        ('segformer_b0', 'vit16'),
        ('segformer_b0', 'rn50'),
        ('segformer_b5', 'vit16'),
        ('segformer_b5', 'rn50'),
        ('dlv2', 'vit16'),
        ('dlv2', 'rn50'),
        ('dlv2_cw', 'vit16'),
        ('dlv2_cw', 'rn50'),
    ],
)
def test_student_at_test(golden, photo, view, build, student, teacher):
    expected = np.load(golden / f'p1_plus_{student}_{teacher}.npz')
    model = build(student, teacher)
    with torch.no_grad():
        scores = model.scores(photo[None], view[None])[0]
    assert tuple(scores.shape) == tuple(expected['scores_shape'])
    step = int(expected['scores_stride'])
    np.testing.assert_allclose(scores[:, ::step, ::step], expected['scores'], rtol=0, atol=2e-4)
    labels = labels_at_photo_size(
        scores, (375, 500), input_size=(390, 520), stride=None, twice=True
    )
    assert (labels.numpy() == expected['label']).mean() >= 0.999


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    'student, teacher, total',
    [
        ('segformer_b0', 'vit16', 90.86),
        ('segformer_b0', 'rn50', 46.32),
        ('segformer_b5', 'vit16', 169.24),
        ('dlv2', 'vit16', 166.46),
        ('dlv2', 'rn50', 156.24),
    ],
)
def test_published_parameter_totals(golden, build, student, teacher, total):
    """The original counts the teacher's visual tower, and SegFormer's unused 59-way classifier."""
    model = build(student, teacher)
    visual = model.aside['teacher'].backbone.tower.visual
    teachers = parameters_of(visual)
    if teacher == 'rn50':  # whose pool's position embedding the original does not carry
        teachers -= visual.attnpool.positional_embedding.numel()
    unused = 59 * (model.decode_head.channels + 1) if student.startswith('segformer') else 0
    counted = parameters_of(model) + teachers + unused
    assert round(counted / 1e6, 2) == total


@pytest.fixture(scope='module')
def batch(golden):
    """The two golden crops, one of them 390 high, as the loader gives them."""
    targets = np.load(golden / 'train_gt.npz')['gt']
    images, samples = [], []
    for i in range(2):
        image = torch.from_numpy(np.asarray(Image.open(golden / f'train_crop{i}.png')).copy())
        images.append(image.permute(2, 0, 1))
        samples.append(SegDataSample())
        samples[i].gt_sem_seg = torch.from_numpy(targets[i, : image.shape[0], : image.shape[1]])
    return images, samples


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_training_pass(golden, build, batch, mode):
    expected = np.load(golden / 'p1_plus_segformer_b0_vit16.npz')
    figures = json.loads((golden / 'p1_plus_segformer_b0_vit16.json').read_text())[mode]
    model = build('segformer_b0', 'vit16').train(mode == 'train')
    images, samples = batch
    targets = torch.full((2, 480, 480), 255)
    for target, sample in zip(targets, samples):
        height, width = sample.gt_sem_seg.shape
        target[:height, :width] = sample.gt_sem_seg
    labels = model.pseudo_labels(targets, model.teacher_scores(images, samples))
    assert (labels.numpy() == expected[f'{mode}_pseudo_label']).mean() >= 0.999
    losses = model.loss(images, samples, step=1)
    tolerance = 1e-4 if mode == 'eval' else 1e-3
    for name, value in figures['losses'].items():
        found = losses[name.removeprefix('decode.')].item()
        assert found == pytest.approx(value, abs=tolerance if 'loss' in name else 0.1)
    losses['loss_ce'].backward()
    own = dict(model.named_parameters())
    for name, norm in figures['grad_norms'].items():
        gradient = own[name.replace('decode_head.decode_module.', 'decode_head.')].grad
        assert gradient.norm().item() == pytest.approx(norm, rel=0.01), name
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert total == pytest.approx(figures['grad_norm_total'], rel=0.01)


def test_learning_rates_of_both_schedules(golden):
    from mmengine.optim import OptimWrapper
    from mmengine.registry import PARAM_SCHEDULERS

    golden_schedules = json.loads((golden / 'schedule.json').read_text())
    leaves = dict(
        dlv2_sgd_4k_exp_sh='maskclip_plus_vit16_deeplabv2_r101-d8_480x480_4k_pascal_context_59.py',
        segformer_b0_vit16_adamw_8k_config=(
            'maskclip_plus_vit16_segformer_b0_480x480_8k_pascal_context_59.py'
        ),
    )
    for name, leaf in leaves.items():
        config, rates = load_config(LEAVES / leaf), golden_schedules[name]['lr_at']
        bases = sorted({base for at_step in rates.values() for base in at_step})
        weights = [torch.nn.Parameter(torch.zeros(1)) for _ in bases]
        groups = [dict(params=[w], lr=float(base)) for w, base in zip(weights, bases)]
        wrapper = OptimWrapper(torch.optim.SGD(groups))
        schedulers = [
            PARAM_SCHEDULERS.build(dict(s), default_args=dict(optimizer=wrapper))
            for s in config.param_scheduler
        ]
        checked = 0
        for step in range(config.train_cfg.max_iters):
            for base, group in zip(bases, wrapper.param_groups):
                expected = rates.get(str(step), {}).get(base)
                if expected is not None:
                    assert group['lr'] == pytest.approx(expected, rel=1e-9), (name, step, base)
                    checked += 1
            wrapper.optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        assert checked >= len(bases) * config.train_cfg.max_iters / 100
