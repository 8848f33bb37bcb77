import re
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from mmseg.apis.segment_files import default_config
from mmseg.clip import load_clip
from mmseg.datasets import PascalContextDataset59
from mmseg.engine import find_config, load_config
from mmseg.errors import UserError
from mmseg.utils.checkpoint import create_with_weights

ROOT = Path(__file__).resolve().parents[2]
LEAVES = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda path: path.stem)
def test_every_leaf_is_valid_and_short(leaf):
    config = load_config(leaf)
    loaders = ('test_dataloader', 'val_dataloader', 'train_dataloader')  # a proxy's has only this
    last = next(config[name] for name in loaders if name in config)
    assert config.model.vocabulary == last.dataset.vocabulary
    schedules = config.get('param_scheduler', [])
    assert all(s.end == config.train_cfg.max_iters + 1 for s in schedules[-1:])
    assert len(leaf.read_text().splitlines()) <= 10
    assert 'pipeline' not in leaf.read_text()
    if leaf.relative_to(ROOT / 'configs').parts[0].startswith('maskclip'):
        published = 'clip_numerics' not in leaf.stem  # of the student, and of its teacher
        for model in (config.model, config.model.get('teacher')):
            assert model is None or bool(model.get('resize_twice')) == published


def test_published_names():
    names = {path.stem for path in LEAVES}
    for tower in ('r50', 'vit16'):
        for kind in ('maskclip', 'maskclip_text'):
            assert f'{kind}_{tower}_520x520_pascal_context_59' in names
            assert f'{kind}_{tower}_clip_numerics_520x520_pascal_context_59' in names


@pytest.mark.parametrize('tower, tau', [('r50', 0.25), ('vit16', 1.0)])
def test_seed_leaves_carry_the_quirks_and_their_siblings_do_not(tower, tau):
    name = f'configs/maskclip_text/maskclip_text_{tower}_{{}}520x520_pascal_context_59.py'
    seed = load_config(ROOT / name.format(''))
    right = load_config(ROOT / name.format('clip_numerics_'))
    assert seed.class_weight.tau == right.class_weight.tau == tau
    head = dict(ks_over='positions', ks_normalize_rows=False, pd_spare_empty=False)
    assert head == {key: seed.model.decode_head[key] for key in head}
    assert seed.model.resize_twice and seed.model.backbone.mean[0] == 0.485
    assert seed.class_weight.sum_to_one and seed.class_weight.signed
    assert seed.class_weight.text.renormalize is False
    assert set(right.model.decode_head) == {'type', 'text'}
    assert set(right.model.backbone) == {'type', 'model', 'pretrained'}
    assert not {'sum_to_one', 'signed'} & set(right.class_weight)


def test_shared_keys_reach_model_and_data():
    leaf = ROOT / 'configs/maskclip_text/maskclip_text_r50_520x520_pascal_context_59.py'
    config = load_config(leaf, {'vocabulary': 'voc_20'})
    assert config.model.vocabulary == config.test_dataloader.dataset.vocabulary == 'voc_20'
    assert config.test_dataloader.dataset.prior_crop_size == 224
    whole = load_config(leaf, {'class_weight.crop': 'image'})
    assert 'prior_crop_size' not in whole.test_dataloader.dataset


STUDENTS = 'configs/maskclip_plus/anno_free/maskclip_plus_vit16_{}_480x480_{}_pascal_context_59.py'


def test_published_students():
    names = {path.stem for path in LEAVES}
    for tower in ('r50', 'vit16'):
        for student in (
            'deeplabv2_r101-d8_480x480_4k',
            'deeplabv2_r101-d8_class_weight_480x480_4k',
            'segformer_b0_480x480_8k',
            'segformer_b5_480x480_8k',
            'segformer_b5_class_weight_480x480_8k',
        ):
            assert f'maskclip_plus_{tower}_{student}_pascal_context_59' in names
        assert f'maskclip_plus_{tower}_deeplabv3plus_r101-d8_480x480_40k_pascal_context' in names


def test_seed_students_carry_the_quirks_and_their_siblings_do_not():
    seed = load_config(ROOT / STUDENTS.format('segformer_b5', '8k'))
    right = load_config(ROOT / STUDENTS.format('segformer_b5_clip_numerics', '8k'))
    assert seed.model.loss_over == 'all' and seed.model.resize_twice
    assert seed.model.decode_head.dropout == 0.0 and right.model.decode_head.dropout == 0.1
    assert not {'loss_over', 'resize_twice', 'pad_to'} & set(right.model)
    voc = 'maskclip_plus_vit16_deeplabv2_r101-d8_512x512_20k_voc12aug_20.py'
    for config in (seed, load_config(ROOT / 'configs' / 'maskclip_plus' / 'zero_shot' / voc)):
        crop = next(
            step
            for step in config.train_dataloader.dataset.pipeline
            if step['type'] == 'RandomCrop'
        )
        assert config.model.pad_to == crop['size']
    assert seed.optim_wrapper.constructor == 'DefaultOptimWrapperConstructor'
    assert right.optim_wrapper.constructor == 'MatrixDecayConstructor'
    assert seed.model.teacher.backbone.act == 'gelu' and 'act' not in right.model.teacher.backbone


def test_who_looks_at_the_whole_photo():
    """A class weight on the student's scores needs CLIP's view at test; on the teacher's it not."""
    on_student = load_config(ROOT / STUDENTS.format('segformer_b5_class_weight', '8k'))
    assert on_student.model.class_weight.tau == 1.0
    assert on_student.test_dataloader.dataset.prior_crop_size == 224
    on_teacher = load_config(
        ROOT / STUDENTS.format('segformer_b5_teacher_weight_clip_numerics', '8k')
    )
    assert 'class_weight' not in on_teacher.model
    assert on_teacher.model.teacher.class_weight.tau == 1.0
    assert on_teacher.train_dataloader.dataset.prior_crop_size == 224
    assert 'prior_crop_size' not in on_teacher.test_dataloader.dataset


def test_options_in_the_names_of_mmsegmentation_0():
    options = {
        'data.samples_per_gpu': 6,
        'optimizer.lr': 6e-5,
        'optimizer.weight_decay': 0.1,
        'runner.max_iters': 100,
        'evaluation.interval': 50,
        'data.train.data_root': 'elsewhere',
    }
    config = load_config(ROOT / STUDENTS.format('segformer_b5', '8k'), options)
    assert config.train_dataloader.batch_size == 6
    assert config.optim_wrapper.optimizer.lr == 6e-5
    assert config.optim_wrapper.optimizer.weight_decay == 0.1
    assert config.train_cfg.max_iters == 100 and config.train_cfg.val_interval == 50
    assert config.param_scheduler[1].end == 101
    assert config.train_dataloader.dataset.data_root == 'elsewhere'


@pytest.mark.parametrize(
    'option, message',
    [
        ('model.decode_head.pd_tresh', "key 'pd_tresh' (nearest: 'pd_thresh')"),
        ('model.backbone.pretraind', "key 'pretraind' (nearest: 'pretrained')"),
        ('model.decode_haed', "key 'decode_haed' (nearest: 'decode_head')"),
        ('test_dataloader.num_worker', "key 'num_worker' (nearest: 'num_workers')"),
        ('test_dataloader.dataset.data_rot', "key 'data_rot' (nearest: 'data_root')"),
        ('test_dataloder', "key 'test_dataloder' (nearest: 'test_dataloader')"),
        ('class_weight.taw', "key 'taw' (nearest: 'tau')"),
        ('randomness.sed', "key 'sed' (nearest: 'seed')"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(option, message):
    leaf = ROOT / 'configs/maskclip_text/maskclip_text_r50_520x520_pascal_context_59.py'
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(leaf, {option: 1})


@pytest.mark.parametrize(
    'option, value, message',
    [
        ('model.type', 'MaskClipp', "no type is called 'MaskClipp' (nearest: 'MaskClip')"),
        ('test_evaluator.type', 'IouMetrics', "(nearest: 'IoUMetric')"),
        (
            'test_dataloader.dataset.type',
            'PascalContextDataset95',
            "(nearest: 'PascalContextDataset59')",
        ),
        ('test_dataloader.dataset.pipeline.1.type', 'Resise', "(nearest: 'Resize')"),
    ],
)
def test_a_misspelt_type_is_named_with_the_nearest(option, value, message):
    leaf = ROOT / 'configs/maskclip/maskclip_r50_520x520_pascal_context_59.py'
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(leaf, {option: value})


@pytest.mark.parametrize(
    'text, message',
    [
        (
            "dict(_delete_=True, type='MiniatureDataset')",
            "MiniatureDataset) lacks the key 'scenes'",
        ),
        ("dict(pipeline=[dict(type='Resize')])", "pipeline[0] (type Resize) lacks the key 'scale'"),
        (None, "model (type MaskClip) lacks the key 'vocabulary'"),
    ],
)
def test_a_missing_key_is_named(tmp_path, text, message):
    base, leaf = ROOT / 'configs' / '_base_', tmp_path / 'leaf.py'
    leaf.write_text(f"_base_ = ['{base}/teachers/miniature_rn.py']\n")
    if text is not None:
        bases = f"['{base}/teachers/miniature_rn.py', '{base}/datasets/miniature.py']"
        leaf.write_text(f'_base_ = {bases}\ntest_dataloader = dict(dataset={text})')
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(leaf)


@pytest.mark.parametrize(
    'name, text, message',
    [
        ('a.yaml', 'model: {}', 'is no Python file'),
        ('gone.py', None, 'does not exist'),
        ('a.py', 'model = dict(', 'cannot be read'),
        ('a.py', '_base_ = "nowhere.py"', 'cannot be read'),
        ('a.py', 'MODEL = {"BACKBONE": 1}', 'no config of this project'),
        (
            'a.py',
            'model = dict(type="EncoderDecoder")\ndata = dict(test=dict())',
            'mmsegmentation 0.x',
        ),
        ('a.py', 'model = dict(type="EncoderDecoder")', "no type is called 'EncoderDecoder'"),
    ],
)
def test_configs_of_others(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / name)


@pytest.mark.parametrize(
    'name, found',
    [
        ('maskclip_rn', 'miniature/maskclip_rn.py'),
        ('maskclip_rn.py', 'miniature/maskclip_rn.py'),
        ('miniature/maskclip_rn', 'miniature/maskclip_rn.py'),
        ('configs/_base_/datasets/voc_20.py', '_base_/datasets/voc_20.py'),
    ],
)
def test_configs_are_found_by_name_from_anywhere(name, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == ROOT / 'configs' / found
    (tmp_path / 'maskclip_rn').mkdir()  # a run's folder
    assert find_config('maskclip_rn').parent == ROOT / 'configs' / 'miniature'
    (tmp_path / 'maskclip_rn.py').touch()
    assert find_config('maskclip_rn.py') == Path('maskclip_rn.py')
    with pytest.raises(UserError, match="maskclip_rm .*nearest: 'maskclip_rn'"):
        load_config('maskclip_rm')


def test_paths_mean_the_same_from_anywhere(tmp_path, monkeypatch):
    """Beside the file that says it, inherited or not; as it stands; in the checkout's pretrain/."""
    own, base = tmp_path / 'own', tmp_path / 'base'
    pretrain = tmp_path / 'checkout' / 'pretrain'
    for folder in (own / 'scenes', base / 'teachers', tmp_path / 'here' / 'data', pretrain):
        folder.mkdir(parents=True)
    (pretrain / 'mit_b0.pth').touch()
    monkeypatch.setattr('mmseg.utils.files.CHECKOUT', pretrain.parent)
    leaf = ROOT / STUDENTS.format('segformer_b0', '8k')
    (base / 'teachers' / 'sclip.py').write_text(
        f"_base_ = '{ROOT}/configs/_base_/teachers/sclip_vit16.py'\ndefault_scope = 'mmseg'"
    )
    (base / 'rows.pth').touch()
    (base / 'base.py').write_text(
        f"_base_ = '{leaf}'\nteacher = 'teachers/sclip.py'\n"
        "model = dict(teacher=dict(decode_head=dict(text=dict(file='rows.pth'))))"
    )
    (own / 'inherits.py').write_text(f"_base_ = '{leaf}'")
    (own / 'leaf.py').write_text(
        "_base_ = '../base/base.py'\n"
        "train_dataloader = dict(dataset=dict(data_root='scenes'))\n"
        "test_dataloader = dict(dataset=dict(data_root='data', ann_dir='scenes'))"
    )
    monkeypatch.chdir(tmp_path / 'here')
    published, ours = load_config(leaf), load_config('../own/inherits.py')
    assert published.model.backbone.pretrained == str(pretrain / 'mit_b0.pth')
    assert ours.model == published.model and Path(ours.teacher).samefile(published.teacher)
    found = load_config('../own/leaf.py')
    assert found.model.teacher.backbone.readout == 'sclip'
    assert found.model.teacher.decode_head.text.file == str(base / 'rows.pth')
    assert found.train_dataloader.dataset.data_root == str(own / 'scenes')
    assert found.test_dataloader.dataset.data_root == 'data'  # of the current folder, as it stands
    assert found.test_dataloader.dataset.ann_dir == 'scenes'  # below data_root
    option = {'test_dataloader.dataset.data_root': 'scenes'}  # a command's are the shell's
    option['teacher'] = '../base/teachers/sclip.py'
    found = load_config('../own/inherits.py', option)
    assert found.test_dataloader.dataset.data_root == 'scenes'
    assert found.model.teacher.backbone.readout == 'sclip'
    found.dump('dumped.py')  # as in a run's folder
    assert load_config('dumped.py').model == found.model


def test_the_checkout_has_weights_and_data_for_any_folder(tmp_path, monkeypatch):
    """Those that no config names: a CLIP by its tag, timm's weights, a data set's usual root."""
    for name in ('here', 'pretrain', 'data/VOCdevkit/VOC2010'):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / 'pretrain' / 'ViT-B-16.pt').touch()
    trained = timm.create_model('test_resnet').state_dict()
    save_file(trained, tmp_path / 'pretrain' / 'test_resnet.r160_in1k.safetensors')
    monkeypatch.setattr('mmseg.utils.files.CHECKOUT', tmp_path)
    monkeypatch.chdir(tmp_path / 'here')
    with pytest.raises(UserError, match=f'{tmp_path}/pretrain/ViT-B-16.pt is no weights file'):
        load_clip('ViT-B-16-quickgelu', 'openai')
    assert default_config().stem.startswith('maskclip_vit16')
    found = create_with_weights('test_resnet').state_dict()
    assert all(tensor.equal(trained[name]) for name, tensor in found.items())
    data = PascalContextDataset59(lazy_init=True)
    assert data.data_root == str(tmp_path / 'data/VOCdevkit/VOC2010')
    assert PascalContextDataset59(data_root='scenes', lazy_init=True).data_root == 'scenes'


def test_every_leaf_is_in_the_model_zoo():
    zoo = (ROOT / 'docs' / 'model_zoo.md').read_text()
    for folder in ('maskclip', 'maskclip_text', 'maskclip_plus'):
        for leaf in (ROOT / 'configs' / folder).rglob('*.py'):
            assert f'`{leaf.stem}`' in zoo, f'{leaf.stem}: run tools/analysis/model_zoo.py'
