"""Students on other readouts' labels: small backbones, random weights, two steps."""

import numpy as np
import pytest
from conftest import ROOT
from test_leaves import pascal_context, text_file  # noqa: F401
from test_train import losses, run_train

from mmseg.engine import load_config
from mmseg.errors import UserError

BEYOND = ROOT / 'configs' / 'maskclip_plus' / 'beyond'
READOUTS = ('sclip', 'naclip', 'scclip', 'proxyclip')
TEACHERS = dict(
    siglip2_b16='ViT-B-16-SigLIP2',
    pe_core_b16='PE-Core-B-16',
    mobileclip2_b16='MobileCLIP2-B',
    laion_vit16='ViT-B-16',
)


def test_a_readout_on_a_student_is_its_teachers():
    leaf = ROOT / 'configs' / 'maskclip_plus' / 'anno_free'
    leaf = next(leaf.glob('maskclip_plus_vit16_segformer_b0_*.py'))
    found = load_config(leaf, {'readout': 'sclip'})
    assert found.model.teacher.backbone.readout == 'sclip'
    with pytest.raises(UserError, match='has no CLIP that readout could change'):
        load_config(leaf, {'readout': 'sclip', 'pseudo_labels': 'labels', 'teacher': None})


@pytest.mark.parametrize('readout', READOUTS)
def test_leaves_are_students_with_clean_numerics_on_other_teachers(readout):
    for student, length in (('segformer_b5', '8k'), ('deeplabv2_r101-d8', '4k')):
        name = f'{student}_clip_numerics_480x480_{length}_pascal_context_59.py'
        found = load_config(BEYOND / f'{readout}_vit16_{name}')
        clean = load_config(BEYOND.parent / 'anno_free' / f'maskclip_plus_vit16_{name}')
        assert found.model.teacher.backbone.readout == readout
        for config in (found, clean):
            del config.model['teacher'], config._cfg_dict['teacher']
        assert found.to_dict() == clean.to_dict()


@pytest.mark.parametrize('teacher', TEACHERS)
def test_leaves_on_other_clips(teacher):
    import open_clip

    name = 'segformer_b5_clip_numerics_480x480_8k_pascal_context_59.py'
    found = load_config(BEYOND / f'{teacher}_{name}')
    clean = load_config(BEYOND.parent / 'anno_free' / f'maskclip_plus_vit16_{name}')
    backbone = found.model.teacher.backbone
    assert backbone.model == TEACHERS[teacher]
    assert backbone.pretrained in open_clip.list_pretrained_tags_by_model(backbone.model)
    for config in (found, clean):
        del config.model['teacher'], config._cfg_dict['teacher']
    assert found.to_dict() == clean.to_dict()


@pytest.mark.parametrize(
    'name', ['sclip_vit16_segformer_b5', 'proxyclip_vit16_segformer_b5_improved']
)
def test_a_leaf_trains(name, pascal_context, tmp_path):  # noqa: F811
    options = [
        f'train_dataloader.dataset.data_root={pascal_context}',
        'train_dataloader.dataset.pipeline.3.size=64',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'model.backbone.size=b0',
        'model.backbone.pretrained=None',
        'model.teacher.backbone.pretrained=random',
        f'model.teacher.decode_head.text.file={text_file(tmp_path, "vit16")}',
        'train_cfg.max_iters=2',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.save_last=False',
    ]
    if 'proxyclip' in name:
        options += ['model.start_clip_guided=(1,1)', 'model.start_self_train=(2,-1)']
        options += ['model.teacher.backbone.proxy.model=vit_tiny_patch16_224']
        options += ['model.teacher.backbone.proxy.pretrained=random']
    leaf = BEYOND / f'{name}_clip_numerics_480x480_8k_pascal_context_59.py'
    arguments = ['--work-dir', tmp_path / 'run', '--no-validate', '--cfg-options', *options]
    assert run_train(leaf, *arguments) == 0
    found = losses(tmp_path / 'run')
    assert len(found) == 2 and np.isfinite(found).all()
