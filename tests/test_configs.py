import re
from pathlib import Path

import pytest

from mmseg.engine import load_config
from mmseg.errors import UserError

ROOT = Path(__file__).parent.parent
LEAVES = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda path: path.stem)
def test_every_leaf_is_valid_and_short(leaf):
    config = load_config(leaf)
    assert config.model.vocabulary == config.test_dataloader.dataset.vocabulary
    assert len(leaf.read_text().splitlines()) <= 8
    assert 'pipeline' not in leaf.read_text()


def test_published_names():
    names = {path.stem for path in LEAVES}
    for tower in ('r50', 'vit16'):
        for kind in ('maskclip', 'maskclip_text'):
            assert f'{kind}_{tower}_520x520_pascal_context_59' in names
            assert f'{kind}_{tower}_clip_numerics_520x520_pascal_context_59' in names


@pytest.mark.parametrize('tower, tau', [('r50', 0.25), ('vit16', 1.0)])
def test_seed_leaves_carry_the_quirks_and_their_siblings_do_not(tower, tau):
    name = f'configs/maskclip_text/maskclip_text_{tower}_{{}}520x520_pascal_context_59.py'
    seed = load_config(ROOT / name.format(''))
    right = load_config(ROOT / name.format('clip_numerics_'))
    assert seed.class_weight.tau == right.class_weight.tau == tau
    head = dict(ks_over='positions', ks_normalize_rows=False, pd_spare_empty=False)
    assert head == {key: seed.model.decode_head[key] for key in head}
    assert seed.model.resize_twice and seed.model.backbone.mean[0] == 0.485
    assert seed.class_weight.sum_to_one and seed.class_weight.signed
    assert seed.class_weight.text.renormalize is False
    assert set(right.model.decode_head) == {'type', 'text'}
    assert set(right.model.backbone) == {'type', 'model', 'pretrained'}
    assert not {'sum_to_one', 'signed'} & set(right.class_weight)


def test_shared_keys_reach_model_and_data():
    leaf = ROOT / 'configs/maskclip_text/maskclip_text_r50_520x520_pascal_context_59.py'
    config = load_config(leaf, {'vocabulary': 'voc_20'})
    assert config.model.vocabulary == config.test_dataloader.dataset.vocabulary == 'voc_20'
    assert config.test_dataloader.dataset.clip_view == 224
    whole = load_config(leaf, {'class_weight.view': 'image'})
    assert 'clip_view' not in whole.test_dataloader.dataset


@pytest.mark.parametrize(
    'option, message',
    [
        ('model.decode_head.pd_tresh', "key 'pd_tresh' (nearest: 'pd_thresh')"),
        ('model.backbone.pretraind', "key 'pretraind' (nearest: 'pretrained')"),
        ('model.decode_haed', "key 'decode_haed' (nearest: 'decode_head')"),
        ('test_dataloader.num_worker', "key 'num_worker' (nearest: 'num_workers')"),
        ('test_dataloader.dataset.data_rot', "key 'data_rot' (nearest: 'data_root')"),
        ('test_dataloder', "key 'test_dataloder' (nearest: 'test_dataloader')"),
        ('class_weight.taw', "key 'taw' (nearest: 'tau')"),
        ('randomness.sed', "key 'sed' (nearest: 'seed')"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(option, message):
    leaf = ROOT / 'configs/maskclip_text/maskclip_text_r50_520x520_pascal_context_59.py'
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(leaf, {option: 1})


@pytest.mark.parametrize(
    'option, value, message',
    [
        ('model.type', 'MaskClipp', "no type is called 'MaskClipp' (nearest: 'MaskClip')"),
        ('test_evaluator.type', 'IouMetrics', "(nearest: 'IoUMetric')"),
        (
            'test_dataloader.dataset.type',
            'PascalContextDataset95',
            "(nearest: 'PascalContextDataset59')",
        ),
        ('test_dataloader.dataset.pipeline.1.type', 'Resise', "(nearest: 'Resize')"),
    ],
)
def test_a_misspelt_type_is_named_with_the_nearest(option, value, message):
    leaf = ROOT / 'configs/maskclip/maskclip_r50_520x520_pascal_context_59.py'
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(leaf, {option: value})


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('a.yaml', 'model: {}', 'is no Python file'),
        ('gone.py', None, 'does not exist'),
        ('a.py', 'model = dict(', 'cannot be read'),
        ('a.py', '_base_ = "nowhere.py"', 'cannot be read'),
        ('a.py', 'MODEL = {"BACKBONE": 1}', 'no config of this project'),
        (
            'a.py',
            'model = dict(type="EncoderDecoder")\ndata = dict(test=dict())',
            'mmsegmentation 0.x',
        ),
        ('a.py', 'model = dict(type="EncoderDecoder")', "no type is called 'EncoderDecoder'"),
    ],
)
def test_configs_of_others(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / name)
