"""Every command and config of docs/own_data.md, on scenes of the miniature and its CLIP."""

import json
import re
import runpy
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from pycocotools import mask as coco

from mmseg.cli import dispatch
from mmseg.datasets.miniature import LABELS, MiniatureDataset

TEXT = (ROOT / 'docs' / 'own_data.md').read_text()
CLASSES = ('sky', 'grass', 'water', 'brick')
FEW = ('test_dataloader.num_workers=0', 'test_dataloader.dataset.pipeline.1.scale=(128,128)')
SMALL = (
    *('train_cfg.max_iters=1', 'train_dataloader.batch_size=2', 'train_dataloader.num_workers=1'),
    *('train_dataloader.dataset.pipeline.3.size=64', 'model.backbone.pretrained=None'),
)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """-> the command lines, a function that runs one; in a folder with the files of the page"""
    (tmp_path / 'configs' / 'my_data').mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(ROOT / 'configs' / '_base_')
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    blocks = re.findall(r'```python\n# (\S+)\n(.*?)```', TEXT, re.S)
    assert len(blocks) == 4 and all(text.count('\n') <= 12 for _, text in blocks)
    for path, text in blocks:
        (tmp_path / path).write_text(text.replace('teachers/vit16', 'teachers/miniature_rn'))
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = [
        line
        for block in re.findall(r'```bash\n(.*?)```', TEXT, re.S)
        for line in block.splitlines()
    ]
    assert len(lines) == 11

    def run(line, *options):
        program, *arguments = shlex.split(line, comments=True)
        if program == 'maskclip':
            return dispatch([*arguments, *options])
        monkeypatch.setattr(sys, 'argv', [*arguments, *options])
        return runpy.run_path(arguments[0], run_name='__main__')

    return lines, run


def write_data(root):
    """'my photos', and 'my data' with photos, masks of CLASSES, and the same as COCO's JSON."""
    for folder in ('my photos/a trip', 'my data/photos/a trip', 'my data/masks/a trip'):
        (root / folder).mkdir(parents=True)
    data, images, annotations = MiniatureDataset(scenes=6, world=1), [], []
    for i in range(6):
        drawn = data.draw(f'miniature/1/{i:05d}.png')
        name = f'{"a trip/" * (i % 2)}photo {i}'
        for folder in ('my photos', 'my data/photos'):
            Image.fromarray(drawn.image).save(root / folder / f'{name}.png')
        if i == 5:
            continue  # a photo without a mask
        mask = np.full((64, 64), 255, np.uint8)
        images.append(dict(id=i, file_name=f'{name}.png', width=64, height=64))
        for k, label in enumerate(CLASSES):
            inside = drawn.mask == LABELS.index(label)
            mask[inside] = k
            if inside.any():
                runs = coco.encode(np.asfortranarray(inside))
                runs['counts'] = runs['counts'].decode()
                row = dict(image_id=i, category_id=k + 1, segmentation=runs, area=int(inside.sum()))
                annotations.append(row)
        Image.fromarray(mask).save(root / 'my data' / 'masks' / f'{name}.png')
    categories = [dict(id=k + 1, name=label) for k, label in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'my data' / 'labels.json').write_text(json.dumps(content))


def test_every_command_of_the_page(commands, tmp_path, capsys):
    lines, run = commands
    results = {}
    for line in lines:
        if 'tools/train.py' in line:
            run(line, '--cfg-options', *SMALL)
        elif 'tools/test.py' in line:
            run(line, '--cfg-options', *FEW)
        else:
            run(line)
        results[line] = capsys.readouterr().out
    assert len(list((tmp_path / 'my labels').rglob('photo ?.png'))) == 6
    assert (tmp_path / 'my labels' / 'photo 0_overlay.png').is_file()
    assert (tmp_path / 'sheet.png').is_file()
    assert (tmp_path / 'segmented' / 'photo 1_labels.png').is_file()  # by the student
    # COCO's masks are the masks, so their figures are the same.
    for kind in ('maskclip test --photos', '--eval mIoU'):
        texts = [text for line, text in results.items() if kind in line]
        figures = [re.findall(r'(sky|grass|water|brick|aAcc|mIoU)\D+([\d.]+)', t) for t in texts]
        assert len(figures) == 2 and figures[0] == figures[1] and len(figures[0]) >= 5, figures
