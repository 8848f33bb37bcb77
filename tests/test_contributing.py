"""The steps of CONTRIBUTING.md work as they stand, on the miniature."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from mmseg.apis import init_model, segment
from mmseg.clip.readout import PRESETS
from mmseg.datasets import LoadAnnotations, LoadImage, PackSegInputs
from mmseg.engine import load_config
from mmseg.models import decode_heads  # noqa: F401  (registers its heads before `steps` starts)
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample

SECTIONS = ('Add a teacher', 'Add a readout', 'Add a student', 'Add a data set')
ADDED = (
    (PRESETS, 'value_value'),
    (MODELS.module_dict, 'LinearHead'),
    (DATASETS.module_dict, 'StreetDataset'),
)


@pytest.fixture(scope='module')
def steps(tmp_path_factory):
    """Run all Python blocks; config blocks become files beside links to the configs."""
    configs = tmp_path_factory.mktemp('checkout') / 'configs'
    (configs / 'miniature').mkdir(parents=True)
    (configs / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    for path in (ROOT / 'configs' / 'miniature').iterdir():
        (configs / 'miniature' / path.name).symlink_to(path)
    # Whoever follows the steps has these names in the package already.
    before = {name: known.pop(name) for known, name in ADDED if name in known}
    names, text = dict(__name__='contributing'), (ROOT / 'CONTRIBUTING.md').read_text()
    for section in SECTIONS:
        body = text.partition(f'## {section}\n')[2].partition('\n## ')[0]
        for block in re.findall(r'```python\n(.*?)```', body, re.S):
            first = block.partition('\n')[0]
            if first.startswith('# configs/'):
                (configs.parent / first.removeprefix('# ')).write_text(block)
            else:
                exec(compile(block, f'CONTRIBUTING.md: {section}', 'exec'), names)
    yield SimpleNamespace(configs=configs / 'miniature', names=names)
    for known, name in ADDED:
        known.pop(name, None)
        if name in before:
            known[name] = before[name]


def test_sections_are_short():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    for section in SECTIONS:
        body = text.partition(f'## {section}\n')[2].partition('\n## ')[0]
        prose = re.sub(r'```.*?```', '', body, flags=re.S)
        assert 0 < len([line for line in prose.splitlines() if line.strip()]) <= 10, section


def test_a_teacher_and_a_readout(steps):
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    scores = [
        segment(init_model(steps.configs / 'my_teacher.py', None, 'cpu', options), photo).scores
        for options in ({}, {'model.backbone.readout': 'value_value'})
    ]
    assert scores[0].shape == scores[1].shape and not np.allclose(*scores)


def test_a_student(steps):
    model = MODELS.build(load_config(steps.configs / 'my_student.py').model)
    assert type(model.decode_head).__name__ == 'LinearHead'
    sample = SegDataSample()
    sample.gt_sem_seg = torch.full((64, 64), -1)
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    losses = model.train().loss([image] * 2, [sample] * 2, step=1)
    losses['loss_ce'].backward()
    assert model.decode_head.project.weight.grad.abs().sum() > 0


def test_a_data_set(steps, tmp_path):
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    Image.new('RGB', (8, 6)).save(tmp_path / 'images' / 'a.jpg')
    Image.new('L', (8, 6), 3).save(tmp_path / 'masks' / 'a.png')
    (tmp_path / 'val.txt').write_text('a\n')
    pipeline = [LoadImage(), LoadAnnotations(), PackSegInputs()]
    config = dict(type='StreetDataset', data_root=str(tmp_path), pipeline=pipeline)
    data = DATASETS.build(config)
    assert data.metainfo['classes'] == ('road', 'car', 'sky')
    assert (data[0]['data_samples'].gt_sem_seg == 2).all()
