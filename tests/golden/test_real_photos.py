"""Real photographs through `tools/test.py`: the figures of an independent script, to 0.1."""

from hashlib import sha256

import pytest
from conftest import ROOT
from test_tools import result_of, run_test

from mmseg.apis.record import weights_digest
from mmseg.clip import CLIPDenseExtractor

FIGURES = {
    'base': dict(aAcc=42.43, mIoU=26.97, mIoU_present=28.39),
    'class_weight': dict(aAcc=59.31, mIoU=42.14, mIoU_present=44.36),
    'context_base': dict(aAcc=17.72),
    'context_class_weight': dict(aAcc=23.93),
}


@pytest.fixture
def once(monkeypatch):
    """The layers before the last attention run once on what two configs show to one tower."""
    digests, found, trunk = {}, {}, CLIPDenseExtractor.trunk

    def kept(self, image):
        if self not in digests:
            digests[self] = weights_digest(self)
        key = digests[self], image.shape, sha256(image.numpy()).digest()
        if key not in found:
            found[key] = trunk(self, image)
        return found[key]

    monkeypatch.setattr(CLIPDenseExtractor, 'trunk', kept)


@pytest.mark.parametrize(
    'names', [('base', 'class_weight'), ('context_base', 'context_class_weight')], ids='-'.join
)
def test_real_photos(mini, once, tmp_path, monkeypatch, names):
    monkeypatch.chdir(ROOT)
    for name in names:
        work = ['--work-dir', tmp_path / name]
        assert run_test(f'tests/configs/real_photos_{name}.py', *work) == 0
        metric = result_of(tmp_path / name)['metric']
        assert {key: 100 * metric[key] for key in FIGURES[name]} == pytest.approx(
            FIGURES[name], abs=0.1
        )
