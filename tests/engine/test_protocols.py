"""Protocols: said once in a config, filled in where they belong, and named beside every figure."""

from pathlib import Path

import pytest

from mmseg.engine import load_config, protocol_of
from mmseg.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
BEYOND = sorted((ROOT / 'configs' / 'beyond').glob('*.py'))
PUBLISHED = ROOT / 'configs/maskclip/maskclip_vit16_520x520_pascal_context_59.py'
MINIATURE = ROOT / 'configs/miniature/maskclip_vit.py'
UNSIZED = [dict(type='RenderScene'), dict(type='PackSegInputs')]
SETS = {
    'voc_20': 20,
    'voc_21': 21,
    'pascal_context_59': 59,
    'pascal_context_60': 60,
    'coco_object_81': 81,
    'coco_stuff_171': 171,
    'cityscapes_19': 19,
    'ade20k_150': 150,
}


def test_the_published_protocol():
    config = load_config(PUBLISHED)
    assert protocol_of(config) == '520-whole: photos inside 520 x 520, in one piece'
    assert 'windows' not in config.model


@pytest.mark.parametrize('name', SETS)
def test_every_set_of_the_peers_has_one_leaf(name):
    (leaf,) = [path for path in BEYOND if path.stem.endswith(name)]
    config = load_config(leaf)
    short = 560 if name == 'cityscapes_19' else 336  # large photos
    text = (
        f'{short}-slide: photos short side {short}, long side up to 2048, windows of 224 every 112'
    )
    assert protocol_of(config) == text
    assert config.model.windows == dict(size=224, stride=112)
    (step,) = [s for s in config.test_dataloader.dataset.pipeline if s['type'] == 'Resize']
    assert step.scale == (2048, short)
    assert config.model.backbone.readout == 'maskclip'
    assert not {'mean', 'std'} & set(config.model.backbone)  # CLIP's own


@pytest.mark.parametrize('readout', ['sclip', 'clearclip', 'naclip', 'gem', 'resclip', 'scclip'])
def test_a_readout_is_one_option(readout):
    config = load_config(BEYOND[0], {'readout': readout, 'model.scoring.scale': 50})
    assert config.model.backbone.readout == readout and config.model.scoring.scale == 50


def test_what_is_overridden_is_named():
    options = {'protocol.scale': (2048, 448), 'protocol.windows.size': 336}
    found = protocol_of(load_config(BEYOND[0], options))
    assert found.startswith('448-slide') and found.endswith('windows of 336 every 112')
    whole = protocol_of(load_config(BEYOND[0], {'protocol.windows': None}))
    assert whole.startswith('336-whole') and whole.endswith('in one piece')
    steps = {'protocol': None, 'test_dataloader.dataset.pipeline': UNSIZED}
    native = load_config(MINIATURE, steps)
    assert protocol_of(native) == 'native-whole: photos as large as they are, in one piece'


@pytest.mark.parametrize(
    'leaf, options, message',
    [
        (PUBLISHED, {'protocol.scales': 3}, "protocol has no key 'scales' (nearest: 'scale')"),
        (MINIATURE, {'test_dataloader.dataset.pipeline': UNSIZED}, 'protocol.scale needs a Resize'),
        (
            MINIATURE,
            {'test_dataloader.dataset.pipeline.1.scale': (96, 96)},
            'pipeline.1.scale has no effect, as protocol.scale sets it',
        ),
        (
            MINIATURE,
            {'test_dataloader.dataset.pipeline': [UNSIZED[0], dict(type='Resize', scale=(9, 9))]},
            'pipeline has no effect',
        ),
    ],
)
def test_bad_protocols(leaf, options, message):
    with pytest.raises(UserError) as error:
        load_config(leaf, options)
    assert message in str(error.value)
