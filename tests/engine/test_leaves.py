"""tools/train.py on every published leaf: its own networks with random weights, at a small crop.

`--leaf-iterations 20` trains longer than the suite has time for.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_train import losses, run_train

LEAVES = Path(__file__).resolve().parents[2] / 'configs' / 'maskclip_plus'
NAMES = [
    f'anno_free/maskclip_plus_{student}_pascal_context_59.py'
    for student in (
        'r50_deeplabv2_r101-d8_480x480_4k',
        'r50_deeplabv2_r101-d8_class_weight_480x480_4k',
        'r50_segformer_b0_480x480_8k',
        'r50_segformer_b5_480x480_8k',
        'vit16_deeplabv2_r101-d8_480x480_4k',
        'vit16_deeplabv2_r101-d8_class_weight_480x480_4k',
        'vit16_segformer_b0_480x480_8k',
        'vit16_segformer_b5_480x480_8k',
    )
]
ZERO_SHOT = 'zero_shot/maskclip_plus_r50_deeplabv3plus_r101-d8_480x480_40k_pascal_context.py'


@pytest.fixture
def pascal_context(tmp_path):
    """Four photos with masks of all 60 ids, laid out as the data set is."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'VOC2010'
    lists = root / 'ImageSets' / 'SegmentationContext'
    for folder in (root / 'JPEGImages', root / 'SegmentationClassContext', lists):
        folder.mkdir(parents=True)
    for i in range(4):
        photo = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        photo.resize((160, 120)).save(root / 'JPEGImages' / f'{i}.jpg')
        mask = Image.fromarray(rng.integers(0, 60, (12, 16), np.uint8))
        mask = mask.resize((160, 120), Image.Resampling.NEAREST)
        mask.save(root / 'SegmentationClassContext' / f'{i}.png')
    (lists / 'train.txt').write_text('0\n1\n2\n3\n')
    return root


@pytest.mark.parametrize('name', [*NAMES, ZERO_SHOT], ids=lambda name: Path(name).stem[14:])
def test_a_published_leaf_trains(name, pascal_context, tmp_path, request):
    iterations = request.config.getoption('--leaf-iterations')
    options = [
        f'train_dataloader.dataset.data_root={pascal_context}',
        'train_dataloader.dataset.pipeline.3.size=64',
        'model.pad_to=64',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'model.backbone.pretrained=None',
        'model.teacher.backbone.pretrained=random',
        f'model.teacher.decode_head.text.file={text_file(tmp_path, name)}',
        f'train_cfg.max_iters={iterations}',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.save_last=False',
    ]
    if 'class_weight' in name:
        options += [
            'class_weight.prior_encoder.pretrained=random',
            f'class_weight.text.file={text_file(tmp_path, "vit16")}',
        ]
    run = tmp_path / 'run'
    arguments = ['--work-dir', run, '--no-validate', '--cfg-options', *options]
    assert run_train(LEAVES / name, *arguments) == 0
    found = losses(run)
    assert len(found) == iterations and np.isfinite(found).all()


def text_file(folder, name):
    """Random unit rows, as many and as wide as the leaf's teacher needs."""
    rows, width = 60 if 'zero_shot' in name else 59, 1024 if 'r50' in name else 512
    path = folder / f'{rows}x{width}.pth'
    torch.save(torch.nn.functional.normalize(torch.randn(rows, width), dim=1), path)
    return path
