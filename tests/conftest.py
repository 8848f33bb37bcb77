"""Shared data of the tests. What needs ../shared is skipped with a reason where it is absent."""

import gc
import importlib.util
import os
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / 'shared'


def load_module(path):
    """A Python file anywhere -> its module"""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_tool(name):
    """A script below tools/, such as 'download_weights' -> its module"""
    path = ROOT / 'tools' / f'{name}.py'
    for folder in (str(ROOT / 'tools'), str(path.parent)):
        if folder not in sys.path:
            sys.path.append(folder)
    return load_module(path)


def run_script(name, *arguments):
    """A script below tools/ in this process -> its exit code."""
    from mmseg.apis.command import run_command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        try:
            run_command(load_tool(name).main)
        except SystemExit as end:
            return end.code
    return 0


def unformatted(text, **_):
    """Stand for yapf."""
    return text, True


@contextmanager
def no_first_weights():
    """Draw no random weights, which takes seconds, where others are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ('kaiming_normal_', 'kaiming_uniform_', 'normal_', 'trunc_normal_'):
            patch.setattr(torch.nn.init, name, lambda weight, *_, **__: weight)
        yield


def forget_runs():
    """Forget the loggers of runs, which mmengine tells apart by the second of their start."""
    for kind in (MessageHub, MMLogger, Visualizer):
        kind._instance_dict.clear()


def group_environment(**variables):
    """-> the variables under which shell scripts start processes: this Python first, a free port"""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    return dict(os.environ, PATH=path, PORT=port, MASTER_PORT=port) | variables


def pytest_addoption(parser):
    parser.addoption(
        '--leaf-iterations', type=int, default=2, help='of tests/engine/test_leaves.py'
    )
    parser.addoption('--fuzz', type=int, default=40, help='of tests/clip/test_weight_fuzz.py')


def pytest_collection_modifyitems(items):
    """Begin with the long tests of documents and style, so that both workers end together."""
    items.sort(key=lambda item: item.path.parent.name != 'tests')


@pytest.fixture(scope='module', autouse=True)
def _frozen():
    """Keep what is imported out of garbage collections: mmengine starts one for each data set."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _alone():
    forget_runs()


@pytest.fixture(scope='session', autouse=True)
def _repeatable(tmp_path_factory):
    threads = max(1, 2 // int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1')))
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv('OMP_NUM_THREADS', str(threads))  # of the processes that tests start
    monkeypatch.setenv('MMSEG_CACHE', str(tmp_path_factory.mktemp('cache')))
    # A run formats its config four times, a third of a second each.
    monkeypatch.setattr('mmengine.config.config.FormatCode', unformatted)
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
    return load_module(golden / 'hashed_weights.py')


@pytest.fixture(scope='session')
def hashed_clip(golden, hashed, tmp_path_factory):
    """'vit16' or 'rn50' -> a .safetensors file of that CLIP's hashed weights."""
    return save_hashed_clips(golden, hashed, tmp_path_factory.mktemp('clip'))


def save_hashed_clips(golden, hashed, folder):
    """See `hashed_clip`; files are written when they are first asked for."""
    from safetensors.numpy import save_file

    def make(name):
        path = folder / f'{name}.safetensors'
        if not path.exists():
            save_file(hashed.load(golden / f'keys_clip_{name}.json'), path)
        return str(path)

    return make


@pytest.fixture(scope='session')
def dino_file(golden, hashed, tmp_path_factory):
    """A file of DINO's ViT-B/16 in the names of its release, weights as the README draws them."""
    import json

    import numpy as np
    from safetensors.numpy import save_file

    state = hashed.state(
        json.loads((golden / 'peers' / 'keys_dino_vitb16.json').read_text()), salt='dino'
    )
    for name in state:
        if name.endswith('attn.proj.weight'):
            state[name] = state[name] * np.float32(0.3)
    state['pos_embed'] = state['pos_embed'] * np.float32(20)
    path = tmp_path_factory.mktemp('dino') / 'dino.safetensors'
    save_file(state, path)
    return path


TEXT = dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=2)
TINY = {
    'vit': dict(
        embed_dim=32,
        vision_cfg=dict(image_size=64, layers=3, width=64, head_width=32, patch_size=16),
        text_cfg=TEXT,
    ),
    'resnet': dict(
        embed_dim=32,
        vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=16, head_width=32),
        text_cfg=TEXT,
    ),
    'abs_attn': dict(
        embed_dim=32,
        vision_cfg=dict(
            timm_model_name='resnet10t', timm_pool='abs_attn', timm_proj='', image_size=224
        ),
        text_cfg=TEXT,
    ),
    'siglip': dict(
        embed_dim=192,
        vision_cfg=dict(
            timm_model_name='vit_tiny_patch16_224',
            timm_pool='map',
            timm_proj='none',
            image_size=224,
        ),
        text_cfg=TEXT,
    ),
}


@pytest.fixture(scope='session')
def tiny_clip():
    """A kind of TINY -> a LoadedCLIP with random weights of that architecture."""
    from mmseg.clip import load_clip

    def make(kind):
        torch.manual_seed(0)
        return load_clip(TINY[kind], 'random')

    return make


@pytest.fixture(scope='session')
def student_file(tmp_path_factory):
    """A published student of the miniature, the smallest there is, untrained."""
    from mmseg.engine import load_config
    from mmseg.models.student_file import describe_student, write_student
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    config = load_config('maskclip_plus_rn_resnet10')
    path = tmp_path_factory.mktemp('student') / 'shapes.safetensors'
    description = describe_student(config, dict(mIoU=0.3612), '9 scenes')
    write_student(MODELS.build(config.model).state_dict(), description, path)
    return path


@pytest.fixture
def photos(tmp_path):
    """A VOC-like folder: five photos in two sizes, masks of ids 0..3 and 255, the split list."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    root = tmp_path / 'data'
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets'):
        (root / folder).mkdir(parents=True)
    for i in range(5):
        height, width = ((60, 80), (75, 50))[i % 2]
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((width, height)).save(root / 'JPEGImages' / f'p{i}.jpg')
        mask = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (3, 4))
        mask = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        mask.save(root / 'SegmentationClass' / f'p{i}.png')
    (root / 'ImageSets' / 'val.txt').write_text('p0\np1\np2\np3\np4\n')
    return root


@pytest.fixture
def tiny_config(tmp_path, photos):
    """A config file of a tiny random CLIP on `photos`, as a user would write it."""
    import json

    (tmp_path / 'clip.json').write_text(json.dumps(TINY['vit']))
    text = torch.nn.functional.normalize(torch.randn(3, 32, generator=torch.manual_seed(1)), dim=1)
    torch.save(text, tmp_path / 'text.pth')
    path = tmp_path / 'tiny.py'
    path.write_text(f"""
_base_ = ['{ROOT}/configs/_base_/datasets/520_whole.py', '{ROOT}/configs/_base_/default_runtime.py']
vocabulary = ['cat', 'dog | puppy', 'sky']
randomness = dict(seed=0)
model = dict(
    type='MaskClip',
    backbone=dict(type='CLIPDenseExtractor', model='{tmp_path}/clip.json', pretrained='random'),
    decode_head=dict(type='MaskClipHead', text=dict(file='{tmp_path}/text.pth')))
test_dataloader = dict(num_workers=0, dataset=dict(
    type='SegDataset', data_root='{photos}', img_dir='JPEGImages', ann_dir='SegmentationClass',
    split='ImageSets/val.txt', reduce_zero_label=True))
""")
    return path
