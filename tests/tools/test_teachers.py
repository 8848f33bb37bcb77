"""`maskclip teachers`: rows by hand, and the page is what it writes."""

import sys

import pytest
from conftest import ROOT

from mmseg.errors import UserError

sys.path.insert(0, str(ROOT / 'tools'))
import teachers


@pytest.mark.parametrize(
    'name, family, millions, stride, size, can',
    [
        ('ViT-B-16', 'ViT, class token', 86.19, 16, 224, ('prior', 'readouts')),
        (
            'PE-Core-T-16-384',
            'ViT (rotary), attention',
            *(6.14, 16, 384, ('prior', 'readouts', 'proxy')),
        ),
        ('MobileCLIP2-S0', 'FastViT, mean', 11.4, 32, 256, ('prior',)),
        ('RN50', 'ResNet, attention', 38.32, 32, 224, ('prior',)),
        ('coca_ViT-B-32', 'ViT, attention', 89.16, 32, 224, ('prior', 'readouts')),
    ],
)
def test_towers(name, family, millions, stride, size, can):
    """Parameters are those of the papers' image towers."""
    found = teachers.teacher(name)
    assert found[1:2] + found[3:6] == (family, stride, size, can) and not found.reason
    assert abs(found.millions - millions) < 0.1


@pytest.mark.parametrize(
    'name, millions', dict(b14=85.7, l14=303.2, so400m14=412.4, g14=1135.0).items()
)
def test_tips(name, millions):
    """Parameters are those of its README."""
    found = teachers.teacher(f'TIPSv2-{name}')
    assert found[1:2] + found[3:6] == ('ViT, class token', 14, 448, ('prior', 'readouts'))
    assert abs(found.millions - millions) < 1 and found.tags == (f'hf:google/tipsv2-{name}',)


def test_tips_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    found = teachers.teacher('TIPSv2-b14')
    assert not found.stride and "pip install 'maskclip-plus[transformers]'" in found.reason


def test_operations_by_hand():
    """ViT-B/16 at 528: eleven blocks, values and keys of the last, its MLP, patches, projection."""
    tokens, width = 33**2 + 1, 768
    block = 24 * tokens * width**2 + 4 * tokens**2 * width
    expected = 11 * block + 22 * tokens * width**2 + 2 * (tokens - 1) * width * (768 + 512)
    assert abs(teachers.gflop_of('ViT-B-16') * 1e9 / expected - 1) < 1e-3


def test_a_tower_that_is_not_built_says_why():
    found = teachers.teacher('vit_relpos_medium_patch16_cls_224')
    assert not found.stride and 'no value path' in found.reason
    assert next(teachers.rows([found]))[5:7] == ('not built', 'no weights')


def test_licences_and_weights_at_hand(tmp_path, monkeypatch):
    (tmp_path / 'pretrain').mkdir()
    (tmp_path / 'pretrain' / 'ViT-B-16.pt').touch()
    monkeypatch.setattr(teachers, 'in_checkout', lambda path: tmp_path / path)
    found = teachers.teacher('ViT-B-16')
    assert (
        found.here == ('openai',)
        and 'openai (here), laion400m_e31' in next(teachers.rows([found]))[7]
    )
    assert teachers.licence_of('PE-Core-B-16', 'meta') == 'see the hub'
    assert teachers.licence_of('ViT-B-16', 'openai') == 'apache-2.0'


def test_the_page_is_what_the_command_writes():
    page = (ROOT / 'docs' / 'teachers.md').read_text()
    assert '147 of\n148 build' in page and page.count('\n| `') == 148
    some = [teachers.teacher(name)._replace(here=()) for name in ('EVA02-B-16', 'TIPSv2-l14')]
    for line in teachers.document(some).splitlines()[-2:]:
        assert line in page, 'run: maskclip teachers --markdown'


def test_a_word_that_no_model_has():
    assert [t.name for t in teachers.teachers(['pe-core-t'])] == ['PE-Core-T-16-384']
    with pytest.raises(UserError, match="named like PECore .nearest: 'PE-Core-B-16'"):
        teachers.teachers(['PECore'])
