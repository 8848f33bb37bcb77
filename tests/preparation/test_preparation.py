"""Data sets prepared from made-up releases in the true layouts, whole and broken."""

import contextlib
import io
import json
import os
import subprocess
import tarfile
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import scipy.io
from conftest import ROOT, run_script
from PIL import Image
from pycocotools import mask as coco
from test_download import Server

from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOObjectDataset,
    COCOStuffDataset,
    LoadAnnotations,
    PascalContextDataset59,
    PascalVOCDataset,
)
from mmseg.errors import UserError
from mmseg.preparation.pascal_context import Photo, label_table, paint, read_mat
from mmseg.vocabularies import load_vocabulary

# Places of the sorted ids are the labels: the release's own rule (0 is anything else).
CONTEXT_IDS = sorted(
    [0, 2, 259, 260, 415, 324, 9, 258, 144, 18, 19, 22, 23, 397, 25, 284, 158, 159, 416, 33]
    + [162, 420, 454, 295, 296, 427, 44, 45, 46, 308, 59, 440, 445, 31, 232, 65, 354, 424, 68]
    + [326, 72, 458, 34, 207, 80, 355, 85, 347, 220, 349, 360, 98, 187, 104, 105, 366, 189, 368]
    + [113, 115]
)
NAMES = dict(train=('2008_000001', '2008_000003'), val=('2008_000002',), test=('2008_000009',))


def run(tool, *arguments):
    """A converter in this process -> what a finished subprocess tells."""
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        code = run_script(f'convert_datasets/{tool}', *arguments)
    return subprocess.CompletedProcess([tool], code, out.getvalue(), error.getvalue())


def test_label_table():
    assert np.flatnonzero(label_table()).tolist() == CONTEXT_IDS[1:]
    assert label_table()[CONTEXT_IDS].tolist() == list(range(60))


@pytest.fixture
def release(tmp_path):
    """VOC 2010's folder with three photos, and the JSON with two overlapping outlines each."""
    root = tmp_path / 'VOCdevkit' / 'VOC2010'
    (root / 'JPEGImages').mkdir(parents=True)
    content = dict(images=[], categories=[], annos_segmentation=[])
    for i, (phase, name) in enumerate((p, n) for p, names in NAMES.items() for n in names):
        height, width = 20 + i, 30
        photo = Image.new('RGB', (width, height), (40 * i, 90, 120))
        photo.save(root / 'JPEGImages' / f'{name}.jpg')
        image = dict(image_id=1000 + i, file_name=f'{name}.jpg', phase=phase)
        content['images'].append(dict(image, height=height, width=width))
        if phase != 'test':
            for part in outlines(i, height, width):
                content['annos_segmentation'].append(dict(part, id=len(name) + i))
    (root / 'trainval_merged.json').write_text(json.dumps(content))
    return root


def outlines(i, height, width):
    """Grass (207) below, a dog (... of the 459) over it, and a category of no class in a corner."""
    whole = np.zeros((3, height, width), np.uint8)
    whole[0, 10:], whole[1, 8:14, 5:20], whole[2, :3, :3] = 1, 1, 1
    for category, mask in zip((207, 9, 1), whole):
        run_lengths = coco.encode(np.asfortranarray(mask))
        yield dict(
            image_id=1000 + i,
            category_id=category,
            segmentation=dict(size=run_lengths['size'], counts=run_lengths['counts'].decode()),
        )


def expected(height):
    labels = np.zeros((height, 30), np.uint8)
    labels[10:], labels[8:14, 5:20] = CONTEXT_IDS.index(207), CONTEXT_IDS.index(9)
    return labels


def test_pascal_context_from_the_json(release):
    ended = run('pascal_context', release, '--partial', '--processes', 0)
    assert ended.returncode == 0, ended.stderr
    for i, name in enumerate((*NAMES['train'], *NAMES['val'])):
        image = Image.open(release / 'SegmentationClassContext' / f'{name}.png')
        assert image.mode == 'P' and np.array_equal(np.asarray(image), expected(20 + i))
    dataset = PascalContextDataset59(data_root=str(release))
    assert [dataset.get_data_info(i)['img_path'][-15:-4] for i in range(len(dataset))] == [
        '2008_000002'
    ]
    saved = json.loads((release / 'ImageSets/SegmentationContext/verification.json').read_text())
    assert saved['train']['pixels']['grass'] == sum((expected(20 + i) == 27).sum() for i in (0, 1))
    assert saved['problems'] == [] and saved['train']['photos'] == 2
    strict = run('pascal_context', release, '--verify')
    assert strict.returncode == 1 and 'train.txt has 2 names, not 4998 or 4996' in strict.stderr


def test_pascal_context_goes_on_and_never_mixes_sources(release):
    run('pascal_context', release, '--partial', '--processes', 0)
    masks = sorted((release / 'SegmentationClassContext').glob('*.png'))
    masks[0].unlink()
    kept = masks[1].stat().st_mtime_ns
    assert run('pascal_context', release, '--partial', '--processes', 0).returncode == 0
    assert masks[0].is_file() and masks[1].stat().st_mtime_ns == kept
    path = release / 'trainval_merged.json'
    path.write_text(path.read_text() + ' ')
    ended = run('pascal_context', release, '--partial', '--processes', 0)
    assert ended.returncode == 1 and 'were not made from' in ended.stderr
    assert (
        run('pascal_context', release, '--partial', '--overwrite', '--processes', 0).returncode == 0
    )


def test_pascal_context_from_mat_files(release, tmp_path):
    run('pascal_context', release, '--partial', '--processes', 0)
    first = {p.name: p.read_bytes() for p in (release / 'SegmentationClassContext').glob('*.png')}
    ids = np.array(CONTEXT_IDS, np.uint16)
    for i, name in enumerate((*NAMES['train'], *NAMES['val'])):
        path = tmp_path / 'trainval' / f'{name}.mat'
        path.parent.mkdir(exist_ok=True)
        scipy.io.savemat(path, dict(LabelMap=ids[expected(20 + i)]), do_compression=True)
    lists = release / 'ImageSets' / 'Main'
    lists.mkdir()
    for split in ('train', 'val'):
        (lists / f'{split}.txt').write_text('\n'.join([*NAMES[split], '2008_999999']))
    options = ['--mat', tmp_path / 'trainval', '--partial', '--overwrite', '--processes', 0]
    ended = run('pascal_context', release, *options)
    assert ended.returncode == 0, ended.stderr
    again = {p.name: p.read_bytes() for p in (release / 'SegmentationClassContext').glob('*.png')}
    assert again == first
    path = tmp_path / 'trainval' / f'{NAMES["val"][0]}.mat'
    path.write_bytes(path.read_bytes()[:150])
    ended = run('pascal_context', release, *options)
    assert ended.returncode == 1 and f'{path} cannot be read as a .mat' in ended.stderr


# pycocotools ends with SIGSEGV on polygons far away, and takes memory for any size.
OUTLINES = {
    'far polygon': [[0, 0, 1e9, 0, 1e9, 1e9]],
    'NaN polygon': [[0, 0, float('nan'), 0, 9, 9]],
    'text polygon': [['a', 'b', 'c', 'd', 'e', 'f']],
    'huge size': dict(size=[2**20, 2**20], counts='0'),
    'negative size': dict(size=[-20, -30], counts='0'),
    'long counts': dict(size=[20, 30], counts='o' * 1000),
    'huge counts': dict(size=[20, 30], counts=[2**40, 2**40]),
    'no counts': dict(size=[20, 30], counts=None),
    'no outline': 7,
}
PHOTOS = {
    'above': dict(file_name='../../../x.jpg'),
    'absolute': dict(file_name='/tmp/x.jpg'),
    'no name': dict(file_name=7),
    'two words': dict(file_name='a b.jpg'),
    'huge photo': dict(height=10**9),
    'text height': dict(height='20'),
    'odd phase': dict(phase=[]),
}


def spoil(content, how):
    rows = content['annos_segmentation']
    if how == 'category':
        rows[0]['category_id'] = 999
    if how == 'size':
        rows[0]['segmentation']['size'] = [5, 6]
    if how == 'huge id':
        rows[0]['image_id'] = int('9' * 4000)
        return json.dumps(content).replace('9' * 4000, '9' * 100_000)
    if how == 'deep':
        return json.dumps(content).replace('"images": [', '"images": [' + '[' * 100_000)
    if how in OUTLINES:
        rows[0]['segmentation'] = OUTLINES[how]
    if how in PHOTOS:
        content['images'][0].update(PHOTOS[how])
    if how == 'unannotated':
        content['annos_segmentation'] = [r for r in rows if r['image_id'] != 1000]
    return json.dumps(content)[: -200 if how == 'cut' else None]


@pytest.mark.parametrize(
    'how, words',
    [
        ('category', '2008_000001 has category 999; Pascal Context knows 0 to 459'),
        ('size', '2008_000001: an annotation'),
        ('unannotated', 'is not whole: 2008_000001 (train) has no annotation'),
        ('cut', 'is not the whole JSON of Pascal Context: it is cut short'),
        ('huge id', 'is not the whole JSON of Pascal Context: Exceeds the limit'),
        ('deep', 'is not the whole JSON of Pascal Context: maximum recursion'),
        *((how, '2008_000001: an annotation cannot be decoded') for how in list(OUTLINES)[:-1]),
        ('no outline', 'an annotation cannot be decoded'),
        *((how, 'which is no path below') for how in list(PHOTOS)[:3]),
        *((how, 'a photo has a name of one word, and 1 to') for how in list(PHOTOS)[3:]),
    ],
)
def test_pascal_context_from_a_broken_json(release, how, words):
    path = release / 'trainval_merged.json'
    path.write_text(spoil(json.loads(path.read_text()), how))
    ended = run('pascal_context', release, '--partial', '--processes', 0)
    assert ended.returncode == 1 and words in ended.stderr, ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in ended.stderr
    assert not list(release.rglob('*.part*')) and not list(release.parents[1].rglob('x.png'))


@pytest.mark.parametrize('name', ['two\nlines.jpg', 'blank .jpg', os.fsdecode(b'\xff.jpg')])
def test_names_that_a_list_cannot_hold(name, tmp_path):
    for folder in ('training', 'validation'):
        photo_and_mask(tmp_path, f'images/{folder}/{name}', f'annotations/{folder}/1.png', [0])
    ended = run('release', 'ade20k', tmp_path, '--partial', '--processes', 0)
    assert ended.returncode == 1
    assert 'train.txt cannot hold ' in ended.stderr and 'rename the file' in ended.stderr


def test_what_a_killed_converter_left_is_swept(release):
    folder = release / 'SegmentationClassContext'
    folder.mkdir()
    left = folder / f'.a.{"0" * 22}.part.png'
    left.touch()
    os.utime(left, (0, 0))
    assert run('pascal_context', release, '--partial', '--processes', 0).returncode == 0
    assert not left.exists()


def test_outlines_of_every_kind_are_painted(release):
    """COCO's own three: compressed runs, lists of runs, polygons."""
    photo = Photo('a', 'train', 20, 30)
    inside = np.zeros((20, 30), np.uint8)
    inside[5:15, 10:25] = 1
    runs = coco.encode(np.asfortranarray(inside))
    starts = np.flatnonzero(np.diff(inside.ravel('F'), prepend=0, append=0))
    lengths = np.diff([0, *starts, inside.size]).tolist()
    for outline in (
        (*runs['size'], runs['counts']),
        dict(size=runs['size'], counts=lengths),
        [[10, 5, 25, 5, 25, 15, 10, 15]],
    ):
        assert np.array_equal(paint(photo, [(1, outline)]), inside)


@pytest.mark.parametrize(
    'content',
    [
        dict(LabelMap=np.zeros((2, 2))),
        dict(LabelMap=np.full((2, 2), -1, np.int16)),
        dict(LabelMap=np.zeros((0, 0), np.uint8)),
        dict(LabelMap=np.zeros((2, 2, 2), np.uint8)),
        dict(LabelMap='text'),
        dict(LabelMap=dict(a=1)),
        dict(LabelMap=np.array([[1, 'x']], object)),
        dict(LabelMap=np.full((2, 2), 460, np.uint16)),
        dict(Other=1),
        b'',
        b'no .mat',
    ],
)
def test_odd_mat_files(content, tmp_path):
    path = tmp_path / 'a.mat'
    if isinstance(content, dict):
        scipy.io.savemat(path, content)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match='a.mat (cannot be read|holds|has category 460)'):
        read_mat(path)


def test_damaged_mat_files(tmp_path):
    path, rng = tmp_path / 'a.mat', np.random.default_rng(0)
    scipy.io.savemat(path, dict(LabelMap=np.ones((9, 9), np.uint8)), do_compression=True)
    whole = path.read_bytes()
    for _ in range(100):
        data = bytearray(whole)
        for place in rng.integers(120, len(data), 2):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(1, 2 * len(data))])
        with contextlib.suppress(UserError):
            assert read_mat(path).ndim == 2


@pytest.mark.parametrize('how', ['mask size', 'value', 'photo', 'mask', 'in both lists'])
def test_verify_names_what_is_wrong(release, how):
    run('pascal_context', release, '--partial', '--processes', 0)
    mask = release / 'SegmentationClassContext' / '2008_000002.png'
    photo = release / 'JPEGImages' / '2008_000002.jpg'
    if how == 'mask size':
        Image.new('L', (7, 7)).save(mask)
    elif how == 'value':
        Image.new('L', (30, 22), 60).save(mask)
    elif how == 'photo':
        photo.unlink()
    elif how == 'mask':
        mask.write_bytes(mask.read_bytes()[:40])
    else:
        with (release / 'ImageSets' / 'SegmentationContext' / 'train.txt').open('a') as file:
            file.write('2008_000002')
    ended = run('pascal_context', release, '--verify', '--partial', '--processes', 0)
    assert ended.returncode == 1
    assert '2008_000002' in ended.stderr.splitlines()[-1]


def test_pascal_context_by_download(release, tmp_path):
    server, away = Server(), tmp_path / 'away'
    archive = tmp_path / 'photos.tar'
    with tarfile.open(archive, 'w') as tar:
        tar.add(release / 'JPEGImages', 'VOCdevkit/VOC2010/JPEGImages')
        tar.add(release / 'trainval_merged.json', '../evil.json')
    server.files = {
        '/VOCtrainval_03-May-2010.tar': archive.read_bytes(),
        '/trainval_merged.json': (release / 'trainval_merged.json').read_bytes(),
    }
    script = ['bash', ROOT / 'pascal_context_preparation.sh', away / 'VOCdevkit' / 'VOC2010']
    options = ['--download', '--mirror', server.address, '--partial']
    ended = subprocess.run([*script, *options], capture_output=True, text=True)
    server.http.shutdown()
    assert ended.returncode == 0, ended.stderr
    assert len(PascalContextDataset59(data_root=str(away / 'VOCdevkit' / 'VOC2010'))) == 1
    assert not list(tmp_path.glob('**/evil.json'))


def test_a_root_that_cannot_be_written(release):
    (release / 'SegmentationClassContext').write_text('a file')
    ended = run('pascal_context', release, '--partial', '--processes', 0)
    assert ended.returncode == 1 and 'cannot write' in ended.stderr
    assert 'Traceback' not in ended.stderr


def photo_and_mask(root, photo, mask, values, size=(6, 4)):
    """Write a photo and a mask whose pixels are these values, in rows."""
    for path in (root / photo, root / mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (90, 120, 40)).save(root / photo)
    labels = np.resize(np.array(values, np.uint8), size[::-1])
    Image.fromarray(labels).save(root / mask)
    return labels


def labels_of(dataset, index=0):
    row = dict(dataset.get_data_info(index), ori_shape=(4, 6))
    return LoadAnnotations()(row)['gt_sem_seg']


def test_cityscapes(tmp_path):
    raw = [7, 8, 33, 0, 6, 34]  # road, sidewalk, bicycle; unlabelled, ground, none
    for split, city in (('train', 'ulm'), ('val', 'lindau')):
        name = f'{split}/{city}/{city}_000000_000001'
        mask = f'gtFine/{name}_gtFine_labelIds.png'
        photo_and_mask(tmp_path, f'leftImg8bit/{name}_leftImg8bit.png', mask, raw)
    ended = run('release', 'cityscapes', tmp_path, '--partial', '--processes', 0)
    assert ended.returncode == 0, ended.stderr
    found = labels_of(CityscapesDataset(data_root=str(tmp_path)))
    assert found.ravel()[:6].tolist() == [0, 1, 18, 255, 255, 255]


def test_coco_stuff(tmp_path):
    raw = [0, 12, 89, 91, 181, 255]  # person, stop sign (id 13), toothbrush, banner, wood, nothing
    for folder in ('train2017', 'val2017'):
        photo, mask = f'images/{folder}/0001.jpg', f'annotations/{folder}/0001.png'
        photo_and_mask(tmp_path, photo, mask, raw)
    ended = run('release', 'coco_stuff164k', tmp_path, '--partial', '--processes', 0)
    assert ended.returncode == 0, ended.stderr
    dataset = COCOStuffDataset(data_root=str(tmp_path))
    names = [dataset.metainfo['classes'][i] for i in labels_of(dataset).ravel()[:5]]
    assert names == ['person', 'stop sign', 'toothbrush', 'banner', 'wood']
    assert labels_of(dataset).ravel()[5] == 255


def test_coco_object(tmp_path):
    """The same release: things from 1 on, and background where there is none or nothing known."""
    raw = [0, 12, 89, 91, 181, 255]
    for folder in ('train2017', 'val2017'):
        photo, mask = f'images/{folder}/0001.jpg', f'annotations/{folder}/0001.png'
        photo_and_mask(tmp_path, photo, mask, raw)
    for release in ('coco_stuff164k', 'coco_object'):  # one beside the other
        ended = run('release', release, tmp_path, '--partial', '--processes', 0)
        assert ended.returncode == 0, ended.stderr
    dataset = COCOObjectDataset(data_root=str(tmp_path))
    names = [dataset.metainfo['classes'][i] for i in labels_of(dataset).ravel()[:6]]
    assert names == ['person', 'stop sign', 'toothbrush', *['background'] * 3]


def test_ade20k(tmp_path):
    for folder in ('training', 'validation'):
        photo, mask = f'images/{folder}/ADE_1.jpg', f'annotations/{folder}/ADE_1.png'
        photo_and_mask(tmp_path, photo, mask, [0, 1, 150])
    ended = run('release', 'ade20k', tmp_path, '--partial', '--processes', 0)
    assert ended.returncode == 0, ended.stderr
    found = labels_of(ADE20KDataset(data_root=str(tmp_path)))
    assert found.ravel()[:3].tolist() == [255, 0, 149]
    ended = run('release', 'ade20k', tmp_path, '--verify', '--processes', 0)
    assert ended.returncode == 1 and 'train.txt has 1 names, not 20210' in ended.stderr
    ended = run('release', 'ade20k', tmp_path / 'nowhere')
    assert ended.returncode == 1 and 'unpack ADEChallengeData2016.zip' in ended.stderr


def test_voc_and_its_augmented_masks(tmp_path):
    root, lists = tmp_path / 'VOCdevkit' / 'VOC2012', 'ImageSets/Segmentation'
    own = {}
    for name in ('own', 'val', 'sbd'):
        photo, mask = f'JPEGImages/{name}.jpg', f'SegmentationClass/{name}.png'
        own[name] = photo_and_mask(root, photo, mask, [0, 15, 255])
    (root / 'SegmentationClass' / 'sbd.png').unlink()
    (root / lists).mkdir(parents=True)
    for split, name in (('train', 'own'), ('val', 'val')):
        (root / lists / f'{split}.txt').write_text(f'{name}\n')
    for name in ('sbd', 'val'):
        path = tmp_path / 'cls' / f'{name}.mat'
        path.parent.mkdir(exist_ok=True)
        scipy.io.savemat(path, dict(GTcls=dict(Segmentation=np.full((4, 6), 20, np.uint8))))
    options = ['--aug', tmp_path / 'cls', '--partial', '--processes', 0]
    ended = run('voc', root, *options)
    assert ended.returncode == 0, ended.stderr
    dataset = PascalVOCDataset(
        data_root=str(root), ann_dir='SegmentationClassAug', split=f'{lists}/trainaug.txt'
    )
    assert len(dataset) == 2  # the photo of val is left out
    assert labels_of(dataset, 0).ravel()[:3].tolist() == [255, 14, 255]
    assert (labels_of(dataset, 1) == 19).all()


def test_voc_by_download(tmp_path):
    server = Server()
    for split in ('train', 'val'):
        photo_and_mask(
            tmp_path / 'tree', f'JPEGImages/{split}.jpg', f'SegmentationClass/{split}.png', [0, 20]
        )
        path = tmp_path / 'tree' / 'ImageSets' / 'Segmentation' / f'{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(split)
    with tarfile.open(tmp_path / 'voc.tar', 'w') as tar:
        tar.add(tmp_path / 'tree', 'VOCdevkit/VOC2012')
    server.files = {'/VOCtrainval_11-May-2012.tar': (tmp_path / 'voc.tar').read_bytes()[:-12000]}
    options = ['--download', '--mirror', server.address, '--partial', '--processes', 0]
    root = tmp_path / 'VOCdevkit' / 'VOC2012'
    ended = run('voc', root, *options)
    assert ended.returncode == 1 and 'is cut short' in ended.stderr, ended.stderr
    (tmp_path / 'VOCtrainval_11-May-2012.tar').unlink()
    server.files = {'/VOCtrainval_11-May-2012.tar': (tmp_path / 'voc.tar').read_bytes()}
    ended = run('voc', root, *options)
    assert ended.returncode == 0, ended.stderr
    server.http.shutdown()


COCO_FILE = dict(
    images=[
        dict(id=7, file_name='a trip/first one.jpg', width=30, height=20),
        dict(id=8, file_name='empty.jpg', width=4, height=4),
    ],
    categories=[dict(id=90, name='traffic_light'), dict(id=3, name='road')],
    annotations=[
        dict(image_id=7, category_id=90, area=4, segmentation=[[10, 5, 12, 5, 12, 7, 10, 7]]),
        dict(image_id=7, category_id=3, area=200, segmentation=[[5, 0, 25, 0, 25, 10, 5, 10]]),
    ],
)


def coco_to_masks(folder, content):
    """-> what tools/convert_datasets/coco_json.py told, with its two photos beside the JSON"""
    (folder / 'photos' / 'a trip').mkdir(parents=True)
    Image.new('RGB', (30, 20)).save(folder / 'photos' / 'a trip' / 'first one.jpg')
    Image.new('RGB', (4, 4)).save(folder / 'photos' / 'empty.jpg')
    (folder / 'my labels.json').write_text(json.dumps(content))
    return run('coco_json', folder / 'my labels.json', folder / 'photos', '--out', folder / 'm')


def test_own_coco_json(tmp_path):
    """Classes by COCO's ids; the small annotation stays in front; a name with blanks."""
    ended = coco_to_masks(tmp_path, COCO_FILE)
    assert ended.returncode == 0, ended.stderr
    mask = np.asarray(Image.open(tmp_path / 'm' / 'a trip' / 'first one.png'))
    expected = np.full((20, 30), 255, np.uint8)
    expected[0:10, 5:25] = 0
    expected[5:7, 10:12] = 1
    assert np.array_equal(mask, expected)
    assert not (tmp_path / 'm' / 'empty.png').exists()
    words = load_vocabulary(tmp_path / 'm' / 'classes.txt')
    assert words.labels == ('road', 'traffic_light')
    assert words.prompts == (('road',), ('traffic light',))
    assert '1 masks of 2 photos' in ended.stdout
    assert '98.00% of the labelled pixels: road' in ended.stdout


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(images=[]), 'it has no images'),
        (dict(categories=[]), 'names no categories'),
        (dict(categories=[dict(name='road')]), 'cannot be read as a JSON of COCO'),
        (
            dict(categories=[dict(id=i, name=f'c{i}') for i in range(300)]),
            'has 300 categories; masks hold at most 255',
        ),
    ],
)
def test_bad_coco_json(tmp_path, change, words):
    ended = coco_to_masks(tmp_path, COCO_FILE | change)
    assert ended.returncode == 1 and words in ended.stderr and 'Traceback' not in ended.stderr
