"""`tools/reproduce.py` on stand-ins: what it plans, measures, finds wrong, and refuses."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, load_tool, run_script
from PIL import Image

from mmseg.apis.record import mean_figures
from mmseg.datasets import transforms
from mmseg.engine import load_config
from mmseg.errors import UserError

sys.path.insert(0, str(ROOT / 'tools'))
from _reproduce.checks import differences, facts_of, right_facts
from _reproduce.page import KEPT, PAGE, README, checked, page_of, readme_table, with_table
from _reproduce.rows import GROUPS, rows_of
from _reproduce.run import OPENAI, Reproduction, curve_of, shown

LEAF = 'maskclip/maskclip_vit16_520x520_pascal_context_59'
KEY = 'maskclip_vit16_520x520_pascal_context_59'
SLIDE = ROOT / 'configs' / 'beyond' / 'vit16_336_slide_pascal_context_59.py'


def result(miou, **changed):
    """What a run keeps of one seed."""
    return dict(
        mIoU=miou,
        photos=5104,
        protocol='520-whole',
        command='python tools/test.py x.py',
        weights_sha256='0' * 64,
        environment=dict(device='cpu'),
        date='2026-11-28',
        curve=[],
        **changed,
    )


@pytest.fixture
def found():
    """Real figures of one row, two seeds."""
    return dict(
        schema=1,
        overrides=[],
        stand_in=False,
        weights={'ViT-B-16.pt': OPENAI},
        split=dict(photos=5104, sha256='1' * 64),
        rows={KEY: {'0': result(21.6), '1': result(21.8)}},
        differences=[],
    )


def test_every_row_is_a_leaf_with_its_published_figure():
    rows = rows_of(['all'])
    assert len({row.key for row in rows}) == len(rows)
    assert all((ROOT / 'configs' / f'{row.config}.py').is_file() for row in rows)
    for row in GROUPS['plus'] + GROUPS['teachers']:
        config = load_config(ROOT / 'configs' / f'{row.config}.py')
        assert config.train_cfg.max_iters == row.iterations
    zoo = load_tool('analysis/model_zoo').PUBLISHED
    ours = {r.key: r.published for g in ('maskclip', 'class_weight', 'plus') for r in GROUPS[g]}
    assert {key: float(text.split()[0]) for key, text in zoo.items()} == ours
    marks = [row.marks for row in GROUPS['plus'] if row.marks]
    assert marks == [((2000, 29.45), (4000, 31.56)), ((4000, 34.27), (8000, 33.88))]


def test_the_pages_of_the_project_are_those_of_its_figures():
    figures = mean_figures(KEPT)
    assert readme_table(figures) in README.read_text()
    assert PAGE.read_text() == page_of(json.loads(KEPT.read_text()) if KEPT.is_file() else None)


def test_a_figure_and_its_verdict_on_the_page(found):
    line = '| MaskCLIP ViT-B/16 | 21.68 | 21.70 ± 0.14 | +0.02 | 0, 1 |'
    assert f'{line} reproduced (within 0.3) |' in page_of(found)
    found['rows'][KEY] = {'0': result(2.0)}
    assert '| differs; the check list finds no cause |' in page_of(found)
    found['differences'] = ['masks: 50 of 50 differ']
    assert '| differs: masks: 50 of 50 differ |' in page_of(found)
    text = with_table(README.read_text(), {KEY: 21.7})
    assert '| MaskCLIP ViT-B/16 | 21.68 | 21.70 |' in text
    assert len(text.splitlines()) == len(README.read_text().splitlines())


def test_figures_of_stand_ins_say_so_in_every_row(found):
    found['stand_in'] = True
    page = page_of(found)
    assert '**These figures are of stand-ins**' in page
    assert '| 21.70 ± 0.14 (stand-in) | +0.02 | 0, 1 | stand-in |' in page


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(schema=0), 'schema: Input should be 1'),
        (dict(rows={}), 'rows: Dictionary should have at least 1 item'),
        (dict(rows={KEY: {}}), f'rows.{KEY}: Dictionary should have at least 1 item'),
        (dict(rows={KEY: {'0': 5}}), f'rows.{KEY}.0: Input should be an object'),
        (dict(rows={KEY: {'x': result(20.0)}}), f'rows.{KEY}.x.[key]: String should match'),
        (dict(stand_in=True), 'its figures are of stand-ins'),
        (dict(weights=None), 'weights: Input should be an object'),
        (dict(weights={'a.pt': '2' * 64}), "no weights have OpenAI's digest"),
        (dict(split=dict(photos=40)), 'split.photos: Input should be 5104 or 5105'),
        (dict(split=dict(photos=5104)), 'split.sha256: Field required'),
        (dict(rows={'mine': {'0': result(50.0)}}), "no row is named 'mine'"),
        (dict(rows={KEY: {'0': result(101.0)}}), f'rows.{KEY}.0.mIoU: Input should be less than'),
        (dict(rows={KEY: {'0': dict(mIoU=20.0)}}), f'rows.{KEY}.0.photos: Field required'),
        (
            dict(rows={KEY: {'0': result(20.0) | dict(weights_sha256='x')}}),
            f'rows.{KEY}.0.weights_sha256: String should match',
        ),
    ],
)
def test_what_is_not_whole_is_not_submitted(found, change, says):
    assert checked(found, Path('a.json')) == [KEY]
    with pytest.raises(UserError, match=re.escape(f'a.json: {says}')):
        checked(found | change, Path('a.json'))


def test_curves_go_on_where_a_run_was_resumed(tmp_path):
    for run, lines in (
        ('1', [dict(loss=1, step=1), dict(mIoU=0.25, step=2)]),
        ('2', [dict(mIoU=0.31, step=4)]),
    ):
        path = tmp_path / run / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text('\n'.join(map(json.dumps, lines)))
    assert curve_of(tmp_path) == [(2, 25.0), (4, 31.0)]
    command = [ROOT / 'tools' / 'test.py', 'model.x={"a": 1}']
    assert shown(command) == 'python tools/test.py \'model.x={"a": 1}\''


def test_a_test_gets_no_options_of_a_training(tmp_path):
    options = ['train_cfg.max_iters=2', 'vocabulary=voc_20']
    run = Reproduction(tmp_path, 'cpu', options)
    assert run.overrides_of(GROUPS['maskclip'][0]) == ['vocabulary=voc_20']
    assert run.overrides_of(GROUPS['plus'][0]) == ['train_cfg.val_interval=1000', *options]


def test_a_student_is_tested_under_corruptions(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(Reproduction, 'call', lambda self, command, log: called.append(command))
    run, row = Reproduction(tmp_path, 'cpu', []), GROUPS['plus'][0]
    run.corrupt(row, [3])
    (command,) = called
    assert command[0] == ROOT / 'tools' / 'analysis' / 'corruptions.py'
    assert command[1:3] == [run.config(row), tmp_path / f'{row.key}-3' / 'latest.pth']


# The check list


PHOTOS = ('2008_000002', '2008_000003')


def write_context(root, order=range(59)):
    """Write VOC 2010's folder with two photos, and masks of all but the last class in an order."""
    values = np.array([0, *(1 + i for i in order)], np.uint8)
    for seed, name in enumerate(PHOTOS):
        labels = values[np.random.default_rng(seed).integers(0, 59, (30, 40))]
        for folder, image, suffix in (
            ('JPEGImages', Image.new('RGB', (40, 30)), 'jpg'),
            ('SegmentationClassContext', Image.fromarray(labels), 'png'),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image.save(root / folder / f'{name}.{suffix}')
    lists = root / 'ImageSets' / 'SegmentationContext'
    lists.mkdir(parents=True)
    for split in ('train', 'val'):
        (lists / f'{split}.txt').write_text('\n'.join(PHOTOS))
    return root


@pytest.fixture(scope='module')
def pascal_context(tmp_path_factory):
    return write_context(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def right(pascal_context):
    """The facts of a right set-up of the slide protocol, with a small tower of random weights."""
    return facts(pascal_context)


def small_clip(folder):
    """Write the architecture of a small CLIP; return its path."""
    path = folder / 'clip.json'
    path.write_text(json.dumps(TINY['vit'] | dict(quick_gelu=True)))
    return path


def facts(root, *options, leaf=SLIDE):
    torch.manual_seed(0)
    common = [f'test_dataloader.dataset.data_root={root}', 'model.backbone.pretrained=random']
    common += [f'model.backbone.model={small_clip(root)}']
    return facts_of(leaf, [*common, *options], PHOTOS)


def test_a_right_set_up_has_no_differences(pascal_context, right):
    assert list(differences(facts(pascal_context), right)) == []
    assert right_facts(f'{SLIDE.stem}-sclip')['activation'] == 'QuickGELU'
    known = right_facts(KEY)
    assert len(known['masks']) == 50 and np.shape(known['text']) == (59, 59)


@pytest.mark.parametrize(
    ('leaf', 'key'), [(SLIDE, f'{SLIDE.stem}-sclip'), (ROOT / 'configs' / f'{LEAF}.py', KEY)]
)
def test_the_known_pixels_are_those_of_the_pipelines(pascal_context, leaf, key):
    found = facts(pascal_context, leaf=leaf)
    assert abs(np.array(found['pixels']) - right_facts(key)['pixels']).max() < 0.02


def test_the_known_masks_are_those_of_a_right_preparation(mini):
    masks = right_facts(KEY)['masks']
    for path in (mini / 'context59_mini' / 'SegmentationClassContext').glob('*.png'):
        labels = np.asarray(Image.open(path)).astype(int)
        assert masks[path.stem] == np.bincount(((labels - 1) % 60).ravel(), minlength=60).tolist()


@pytest.mark.parametrize(
    ('fault', 'says'),
    [
        ('BGR', r'pixels: .* red and blue are swapped'),
        ('resize', r'pixels: .* another resize'),
        ('GELU', r'activation: the tower has GELU, this figure needs QuickGELU'),
        ('templates', r'text: cosines .* another template set'),
        ('zero label', r'masks: 2 of 2 .* the zero label is not reduced'),
        ('FCN order', r'masks: 2 of 2 .* the classes are in another order'),
    ],
)
def test_each_of_six_faults_is_named(pascal_context, right, monkeypatch, tmp_path, fault, says):
    root, options = pascal_context, []
    if fault == 'BGR':
        read = transforms.read_photo
        monkeypatch.setattr(transforms, 'read_photo', lambda p, **_: Image.fromarray(bgr(read(p))))
    elif fault == 'resize':  # PIL's bilinear, which averages
        monkeypatch.setattr(cv2, 'resize', pil_resize)
    elif fault == 'GELU':
        options = ['model.backbone.act=gelu']
    elif fault == 'templates':
        options = ['model.decode_head.text.templates=plain']
    elif fault == 'zero label':
        options = ['test_dataloader.dataset.reduce_zero_label=False']
    else:
        root = write_context(tmp_path, np.random.default_rng(0).permutation(59))
    texts = list(differences(facts(root, *options), right))
    assert len(texts) == 1 and re.search(says, texts[0]), texts


def bgr(photo):
    return np.ascontiguousarray(np.asarray(photo)[..., ::-1])


def pil_resize(image, size, interpolation):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


@pytest.fixture
def free_space(monkeypatch):
    """The disk's free bytes in this test, whatever this machine has: a list of one number."""
    free = [10**12]
    monkeypatch.setattr(
        '_reproduce.plan.shutil.disk_usage', lambda folder: SimpleNamespace(free=free[0])
    )
    return free


@pytest.mark.usefixtures('free_space')
def test_a_run_is_measured_row_by_row_and_goes_on(pascal_context, tmp_path, monkeypatch, capsys):
    """The scripts run in this process; a row that fails does not stop the other."""
    (tmp_path / 'data' / 'VOCdevkit').mkdir(parents=True)
    (tmp_path / 'data' / 'VOCdevkit' / 'VOC2010').symlink_to(pascal_context)
    monkeypatch.chdir(tmp_path)
    called, broken = [], ['maskclip_r50']

    def call(self, command, log, *, quiet=False):
        name = Path(command[0]).stem
        called.append(name)
        if name == 'benchmark':
            rate, memory = dict(median=2.0), dict(host_mib=1024, device_mib=None)
            (tmp_path / command[command.index('--out') + 1]).write_text(
                json.dumps(dict(results=[dict(rate=rate, memory=memory)]))
            )
        elif any(part in str(command) for part in broken):
            raise UserError('test.py failed (test.log): error: no space left')
        elif name == 'test':
            assert run_script(name, *command[1:]) == 0

    monkeypatch.setattr(Reproduction, 'call', call)
    clip = small_clip(tmp_path)
    options = ['model.backbone.pretrained=random', f'model.backbone.model={clip}']
    command = ['--rows', 'maskclip', '--device', 'cpu', '--partial', '--cfg-options', *options]
    assert run_script('reproduce', *command) == 1
    assert 'this takes 1 hours on this CPU; --yes goes on' in capsys.readouterr().err
    assert run_script('reproduce', '--yes', *command) == 1
    told = capsys.readouterr()
    assert 'MaskCLIP ViT-B/16                                  0.7 h, 1.0 GiB' in told.out
    assert '1 of 2 rows failed: MaskCLIP RN50' in told.err
    called.clear(), broken.clear()
    assert run_script('reproduce', '--yes', *command) == 0
    assert called == ['download_weights', 'pascal_context', 'test']  # the other row is there
    kept = json.loads(Path('work_dirs/reproduction/reproduction.json').read_text())
    assert kept['stand_in'] and kept['split']['photos'] == 2 and len(kept['rows']) == 2
    assert kept['differences'][-1] == 'split: 2 photos, the published list has 5104'
    page = Path('work_dirs/reproduction/reproduction.md').read_text()
    assert page.count('(stand-in)') == 2
    assert run_script('reproduce', '--submit', 'work_dirs/reproduction/reproduction.json') == 1
    assert 'its figures are of stand-ins' in capsys.readouterr().err
    other = ['--rows', 'maskclip', '--device', 'cpu', '--cfg-options', 'model.scoring.scale=40']
    assert run_script('reproduce', *other) == 1
    assert 'is of other --cfg-options; choose another --work-dir' in capsys.readouterr().err


def test_students_are_measured_without_the_check_list_of_maskclip(
    free_space, tmp_path, monkeypatch, capsys
):
    """Their configs have no text to compare; a second student fails and stops no other."""
    monkeypatch.chdir(tmp_path)

    def measure(self, row, seeds, parts):
        if row.key.endswith('r50_segformer_b5_480x480_8k_pascal_context_59'):
            raise UserError('train.py failed')
        self.found['rows'][row.key] = {'0': result(20.0)}

    def describe(self, config):
        self.found |= dict(stand_in=True, weights={}, split=dict(photos=2, sha256='1' * 64))

    cost = dict(photos_s=2.0, iterations_s=1.0, mib=1024, parts=1)
    monkeypatch.setattr('_reproduce.plan._measured', lambda run, row, device: cost)
    monkeypatch.setattr(Reproduction, 'measure', measure)
    monkeypatch.setattr(Reproduction, 'describe', describe)
    monkeypatch.setattr(Reproduction, 'call', lambda self, command, log, *, quiet=False: None)
    free_space[0] = 10**9
    command = ['--rows', 'plus', '--yes', '--device', 'cpu']
    assert run_script('reproduce', *command) == 1
    assert 'has 1.0 GB free, this needs about 22.5; choose' in capsys.readouterr().err
    free_space[0] = 10**12
    assert run_script('reproduce', *command) == 1
    page = Path('work_dirs/reproduction/reproduction.md').read_text()
    assert page.count('20.00 (stand-in)') == 5
