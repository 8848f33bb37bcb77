"""Shared data of the tests. What needs ../shared is skipped with a reason where it is absent."""

import importlib.util
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / 'shared'


@pytest.fixture(scope='session', autouse=True)
def _repeatable(tmp_path_factory):
    torch.manual_seed(0)
    torch.set_num_threads(2)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv('MMSEG_CACHE', str(tmp_path_factory.mktemp('cache')))
    yield
    monkeypatch.undo()


@pytest.fixture(scope='session')
def golden():
    """Folder of the original implementation's outputs."""
    if not (SHARED / 'golden').is_dir():
        pytest.skip('needs ../shared/golden')
    return SHARED / 'golden'


@pytest.fixture(scope='session')
def mini():
    """Folder of real photos, masks and a small image-text tower."""
    if not (SHARED / 'mini').is_dir():
        pytest.skip('needs ../shared/mini')
    return SHARED / 'mini'


@pytest.fixture(scope='session')
def hashed(golden):
    """The module that draws the golden data's weights."""
    spec = importlib.util.spec_from_file_location('hashed_weights', golden / 'hashed_weights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def hashed_clip(golden, hashed, tmp_path_factory):
    """'vit16' or 'rn50' -> a .safetensors file of that CLIP's hashed weights."""
    from safetensors.numpy import save_file
    folder = tmp_path_factory.mktemp('clip')

    def make(name):
        path = folder / f'{name}.safetensors'
        if not path.exists():
            save_file(hashed.load(golden / f'keys_clip_{name}.json'), path)
        return str(path)
    return make
