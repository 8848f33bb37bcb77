"""Real photographs through `tools/test.py`: the figures of an independent script, to 0.1."""

import pytest
from conftest import ROOT
from test_tools import result_of, run_test

FIGURES = {
    'base': dict(aAcc=42.43, mIoU=26.97, mIoU_present=28.39),
    'class_weight': dict(aAcc=59.31, mIoU=42.14, mIoU_present=44.36),
    'context_base': dict(aAcc=17.72),
    'context_class_weight': dict(aAcc=23.93),
}


@pytest.mark.parametrize('name', FIGURES)
def test_real_photos(mini, tmp_path, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    assert run_test(f'tests/configs/real_photos_{name}.py', '--work-dir', tmp_path) == 0
    metric = result_of(tmp_path)['metric']
    assert {key: 100 * metric[key] for key in FIGURES[name]} == pytest.approx(
        FIGURES[name], abs=0.1
    )
