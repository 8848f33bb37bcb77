"""Label formats: round trips, the readers of other projects, what others write, damaged files."""

import base64
import functools
import io
import json
import os

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT, run_script
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from mmseg.apis.command import LABEL_FORMATS, run_command
from mmseg.apis.command_lines import parse_test, run_segment, run_test
from mmseg.apis.evaluate import evaluate
from mmseg.apis.test import test as run_config
from mmseg.datasets.miniature import MiniatureDataset
from mmseg.datasets.reading import list_photos
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.preparation.read_formats import read_labels
from mmseg.preparation.write_formats import WRITERS, check_format, regions_of, write_labels
from mmseg.utils.images import label_image
from mmseg.vocabularies import load_vocabulary

NAMES = [
    'potted plant',
    'wall, brick',
    'café ✓',
    'no',
    '7',
    'background',
    *(f'x{i}' for i in range(9)),
]
VOCABULARY = load_vocabulary(NAMES)
CONFIG = ROOT / 'configs' / 'miniature' / 'maskclip_rn.py'
STUDENT = CONFIG.with_name('maskclip_plus_rn_segformer_b0.py')
FILES = {
    'coco': 'coco/annotations.json',
    'yolo-seg': 'yolo-seg/data.yaml',
    'labelme': 'labelme',
    'cvat': 'cvat',
}


def scenes(count, size):
    """-> masks of the miniature, enlarged, without labels at the seams and in a few pixels"""
    data, rng = MiniatureDataset(scenes=count, world=5), np.random.default_rng(0)
    for i in range(count):
        mask = Image.fromarray(data.draw(f'miniature/5/{i:05d}.png').mask)
        labels = np.array(mask.resize((size + 20, size), Image.Resampling.NEAREST))
        labels[cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((2, 2))) > 0] = 255
        labels[rng.random(labels.shape) < 0.001] = 255
        yield labels


@functools.cache
def maps():
    """-> {name of the photo: labels}"""
    rng = np.random.default_rng(1)
    nested = np.zeros((40, 50), np.uint8)
    for i, label in enumerate((1, 255, 0, 2, 1)):  # a hole, and regions within regions
        nested[3 + 3 * i : 37 - 3 * i, 3 + 3 * i : 47 - 3 * i] = label
    tiny = np.full((9, 12), 255, np.uint8)
    tiny[0, 0], tiny[8, 11], tiny[4, 3:5], tiny[6:8, 6] = 0, 0, 1, 2
    found = {f'sub/scene {i}.png': labels for i, labels in enumerate(scenes(2, 256))}
    found['noise.png'] = rng.choice(np.array([0, 1, 2, 255], np.uint8), (31, 47))
    found |= {'nested.png': nested, 'tiny.jpg': tiny, 'one.png': np.ones((7, 5), np.uint8)}
    return found | {'é #nothing.png': np.full((8, 6), 255, np.uint8)}


def lay_out(root, labels, vocabulary=VOCABULARY):
    """Write photos and label PNGs -> [(photo, label PNG)]"""
    pairs = []
    for name, values in labels.items():
        photo, png = root / 'photos' / name, (root / 'png' / name).with_suffix('.png')
        for path in (photo, png):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', values.shape[::-1]).save(photo)
        label_image(values, vocabulary.palette).save(png)
        pairs.append((photo, png))
    return pairs


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A folder of photos/, png/ and all formats."""
    root = tmp_path_factory.mktemp('formats')
    pairs = lay_out(root, maps())
    for name in WRITERS:
        write_labels(name, pairs, VOCABULARY, root / name, root=root / 'photos')
    return root


def read(root, path, vocabulary=VOCABULARY):
    """-> {name of the photo: labels}"""
    rows = read_labels(root / path, list_photos(root / 'photos'), vocabulary, root=root / 'photos')
    return {str(photo.relative_to(root / 'photos')): labels for photo, labels in rows}


def require_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, labels in expected.items():
        assert found[name].dtype == labels.dtype and np.array_equal(found[name], labels), name


def test_the_formats_of_command_lines():
    assert LABEL_FORMATS == ('png', *WRITERS)


@pytest.mark.parametrize('path', ['png', *sorted({*WRITERS, *FILES.values()})])
def test_round_trip(written, path):
    require_equal(read(written, path), maps())


def test_a_region_comes_before_those_inside_it():
    regions = regions_of(maps()['nested.png'], len(NAMES))
    assert [(region.label, region.holes) for region in regions] == [
        (0, 1),
        (1, 1),
        (0, 1),
        (2, 1),
        (1, 0),
    ]


def test_real_masks(mini, tmp_path):
    root = mini / 'voc20_mini' / 'SegmentationClass'
    masks = {p.name: np.array(Image.open(p)) for p in sorted(root.glob('*.png'))[:12]}
    labels = {name: np.where(mask == 0, 255, mask - 1) for name, mask in masks.items()}
    labels = {
        name: np.where(mask >= 20, 255, mask).astype(np.uint8) for name, mask in labels.items()
    }
    vocabulary = load_vocabulary('voc_20')
    pairs = lay_out(tmp_path, labels, vocabulary)
    for name, path in FILES.items():
        write_labels(name, pairs, vocabulary, tmp_path / name, root=tmp_path / 'photos')
        require_equal(read(tmp_path, path, vocabulary), labels)


@pytest.mark.parametrize('name', WRITERS)
def test_more_classes_than_a_byte_holds(tmp_path, name):
    vocabulary = load_vocabulary([f'c{i}' for i in range(300)])
    labels = {'a.png': np.arange(300, dtype=np.int32).repeat(2).reshape(20, 30)}
    labels['a.png'][0, 0] = 65535
    pairs = lay_out(tmp_path, labels, vocabulary)
    write_labels(name, pairs, vocabulary, tmp_path / name, root=tmp_path / 'photos')
    require_equal(read(tmp_path, FILES[name], vocabulary), labels)


def test_coco_for_pycocotools(written):
    data = COCO(written / FILES['coco'])
    names = {row['id']: row['name'] for row in data.cats.values()}
    kinds = set()
    for image in data.imgs.values():
        labels = np.full((image['height'], image['width']), 255, np.uint8)
        for row in data.imgToAnns[image['id']]:
            mask = data.annToMask(row) > 0
            y, x = mask.nonzero()
            assert row['area'] == mask.sum() and (labels[mask] == 255).all()
            assert row['bbox'] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            labels[mask] = NAMES.index(names[row['category_id']])
            kinds.add(type(row['segmentation']))
        assert np.array_equal(labels, maps()[image['file_name']])
    assert kinds == {list, dict}


def test_yolo_for_supervision(written):
    supervision = pytest.importorskip('supervision', reason='needs supervision')
    for folder in ('', 'sub'):
        data = supervision.DetectionDataset.from_yolo(
            images_directory_path=str(written / 'yolo-seg' / 'images' / folder),
            annotations_directory_path=str(written / 'yolo-seg' / 'labels' / folder),
            data_yaml_path=str(written / 'yolo-seg' / 'data.yaml'),
            force_masks=True,
        )
        assert data.classes == NAMES and len(data) == (2 if folder else 5)
        for path, _, found in data:
            expected = maps()[os.path.relpath(path, written / 'yolo-seg' / 'images')]
            labels = np.full(expected.shape, 255, np.uint8)
            for mask, label in zip(found.mask if len(found) else (), found.class_id):
                labels[mask] = label
            assert np.array_equal(labels, expected), path


def test_yolo_for_ultralytics(written):
    """Its `verify_image_label` and `polygon2mask`: float32, cut to whole pixels, by OpenCV."""
    data = yaml.safe_load((written / 'yolo-seg' / 'data.yaml').read_text())
    assert list(data['names'].values()) == NAMES and data['train'] == data['val'] == 'images'
    for name, expected in maps().items():
        file = (written / 'yolo-seg' / 'labels' / name).with_suffix('.txt')
        labels = np.full(expected.shape, 255, np.uint8)
        for line in file.read_text().splitlines():
            label, *numbers = line.split()
            points = np.array(numbers, np.float32).reshape(-1, 2)
            assert len(points) > 2 and points.min() > 0 and points.max() < 1
            assert (np.ptp(points, axis=0) > 0).all()  # a box of some size
            points = (points * np.array(expected.shape[::-1], np.float32)).astype(np.int32)
            cv2.fillPoly(labels, [points], int(label))
        assert np.array_equal(labels, expected), name


def test_labelme_for_labelme(written):
    """Its `shapes_to_label`: polygons drawn by Pillow, later ones on top."""
    for name, expected in maps().items():
        path = (written / 'labelme' / name).with_suffix('.json')
        content = json.loads(path.read_text())
        canvas = Image.new('L', expected.shape[::-1], 255)
        for shape in content['shapes']:
            points = [tuple(point) for point in shape['points']]
            label = NAMES.index(shape['label'])
            ImageDraw.Draw(canvas).polygon(points, outline=label, fill=label)
        assert np.array_equal(np.asarray(canvas), expected), name
        photo = path.parent / content['imagePath']
        assert photo.resolve() == (written / 'photos' / name).resolve()


def test_cvat_by_hand(tmp_path):
    labels = {'a b.png': np.array([[0, 1, 255]], np.uint8)}
    vocabulary = load_vocabulary(['sky #0a141e', 'background #808080'])
    pairs = lay_out(tmp_path, labels, vocabulary)
    write_labels('cvat', pairs, vocabulary, tmp_path / 'cvat', root=tmp_path / 'photos')
    lines = (tmp_path / 'cvat' / 'labelmap.txt').read_text().splitlines()
    assert lines[1:] == ['unlabelled:0,0,0::', 'sky:10,20,30::', 'background:128,128,128::']
    listed = tmp_path / 'cvat' / 'ImageSets' / 'Segmentation' / 'default.txt'
    assert listed.read_text() == 'a b\n'
    expected = dict(
        SegmentationClass=[[[10, 20, 30], [128, 128, 128], [0, 0, 0]]],
        SegmentationObject=[[[0, 0, 255], [0, 221, 0], [0, 0, 0]]],
    )
    for folder, pixels in expected.items():
        assert np.array(Image.open(tmp_path / 'cvat' / folder / 'a b.png')).tolist() == pixels


def test_colours_that_cvat_could_not_tell_apart(tmp_path):
    vocabulary = load_vocabulary(['a #000000', 'b #ff0000', 'c #ff0000'])
    labels = {'a.png': np.array([[0, 1, 2, 255]], np.uint8)}
    pairs = lay_out(tmp_path, labels, vocabulary)
    write_labels('cvat', pairs, vocabulary, tmp_path / 'cvat', root=tmp_path / 'photos')
    require_equal(read(tmp_path, 'cvat', vocabulary), labels)


# What other programs write, for a photo of 4x3 with the classes a and b.


def put(root, path, content):
    path = root / path
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding='utf-8')


def coco(**changes):
    image = dict(id=7, file_name='p.png', height=3, width=4)
    rows = [
        dict(image_id=7, category_id=3, bbox=[0, 0, 1, 1], segmentation=[[0, 0, 1, 0, 1, 1, 0, 1]]),
        dict(image_id=7, category_id=9, area=6, segmentation=dict(size=[3, 4], counts=[0, 6, 6])),
    ]
    names = [dict(id=9, name='a'), dict(id=3, name='b'), dict(id=1, name='unused')]
    return dict(annotations=rows, images=[image], categories=names) | changes


def shape(label, kind, points, **more):
    return dict(label=label, shape_type=kind, points=points) | more


def labelme(*shapes, **changes):
    return dict(shapes=shapes, imageHeight=3, imageWidth=4) | changes


def encoded(mask):
    buffer = io.BytesIO()
    Image.fromarray(np.array(mask, np.uint8) * 255).save(buffer, 'png')
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def folder(tmp_path):
    """A folder of one photo, photos/p.png."""
    (tmp_path / 'photos').mkdir()
    Image.new('RGB', (4, 3)).save(tmp_path / 'photos' / 'p.png')
    return tmp_path


def read_one(folder, path):
    return read(folder, path, load_vocabulary(['a', 'b']))['p.png'].tolist()


def test_coco_of_others(folder):
    put(folder, 'coco.json', coco())
    assert read_one(folder, 'coco.json') == [[1, 0, 255, 255], [0, 0, 255, 255], [0, 0, 255, 255]]


@pytest.mark.parametrize(
    'data, file',
    [
        (dict(names=['b', 'a']), 'labels/p.txt'),
        (
            dict(names={0: 'b', 1: 'a'}, train='../train/images', val=['val/images']),
            'val/labels/p.txt',
        ),
        (dict(names={'1': 'a', '0': 'b'}, path='data', test='images/x'), 'data/labels/x/p.txt'),
        (dict(names=['b', 'a'], path='.', val='val.txt'), 'labels/val/p.txt'),
    ],
)
def test_yolo_of_others(folder, data, file):
    put(folder, 'yolo.yml', yaml.safe_dump(data))
    put(folder, file, '0 0 0 .3 0 .3 .3 0 .3\n\n1 0 0 .9 0 .9 .9 0 .9')
    assert read_one(folder, 'yolo.yml') == [[1, 1, 0, 0], [0] * 4, [0] * 4]


def test_labelme_of_others(folder):
    rows = [
        shape('a', 'rectangle', [[3, 2], [0.5, 0.5]]),
        shape('b', 'mask', [[1, 1], [2, 2]], mask=encoded([[1, 0], [1, 1]])),
        shape('__ignore__', 'polygon', [[0, 0], [0.9, 0], [0, 0.9]]),
    ]
    put(folder, 'labelme/p.json', labelme(*rows, imageHeight=None))
    assert read_one(folder, 'labelme') == [[255, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    put(folder, 'photos/p.json', labelme(*rows))  # beside a photo that is a PNG
    assert read_one(folder, 'photos') == [[255, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]


def test_cvat_of_others(folder):
    put(folder, 'cvat/labelmap.txt', '# label\nb:1,2,3::\nbackground:0,0,0::\na:0,0,9:x:y\n')
    colours = np.zeros((3, 4, 3), np.uint8)
    colours[0], colours[1, :2] = (1, 2, 3), (0, 0, 9)
    (folder / 'cvat' / 'SegmentationClass').mkdir()
    Image.fromarray(colours).quantize().save(folder / 'cvat' / 'SegmentationClass' / 'p.png')
    assert read_one(folder, 'cvat') == [[1] * 4, [0, 0, 255, 255], [255] * 4]


ONE = shape('a', 'polygon', [[0, 0], [2, 0], [0, 2]])
RUNS = dict(size=[3, 4], counts=[0, 12])
BAD = {
    'nothing': ({}, 'none', 'no labels at'),
    'no photo is labelled': ({'x/q.json': labelme()}, 'x', 'has no labels of the 1 photos of'),
    'coco cut': ({'x.json': json.dumps(coco())[:-9]}, 'x.json', 'cut short'),
    'coco of no images': ({'x.json': labelme()}, 'x.json', 'it has no images'),
    'coco list': ({'x.json': []}, 'x.json', 'cannot be read as a JSON of COCO'),
    'coco lacks': ({'x.json': coco(images=[dict(id=1)])}, 'x.json', "it lacks 'height'"),
    'coco odd image': ({'x.json': coco(images=[[]])}, 'x.json', 'as a JSON of COCO'),
    'coco size': (
        {'x.json': coco(images=[dict(id=7, file_name='p.png', height=9, width=9)])},
        'x.json',
        'p.png is 9x9, the photo 4x3',
    ),
    'coco class': ({'x.json': coco(categories=[dict(id=3, name='B')])}, 'x.json', 'the class'),
    **{
        f'coco {what}': (
            {
                'x.json': coco(
                    annotations=[dict(image_id=7, category_id=3, area=1, segmentation=odd)]
                )
            },
            'x.json',
            'cannot be read as annotations of p.png',
        )
        for what, odd in {
            'far': [[0, 0, 1e9, 0, 1e9, 1e9]],
            'runs': dict(size=[3, 4], counts='o' * 1000),
            'long runs': dict(size=[3, 4], counts=[9, 99]),
            'other runs': dict(size=[4, 3], counts=[0, 12]),
            'text': 'abc',
        }.items()
    },
    'yolo no yaml': ({'x.yaml': 'names: [a'}, 'x.yaml', 'cannot be read as a data.yaml of YOLO'),
    'yolo no names': ({'x.yaml': 'nc: 2'}, 'x.yaml', "it lacks 'names'"),
    'yolo text': ({'x.yaml': 'a'}, 'x.yaml', 'as a data.yaml of YOLO'),
    'yolo out': ({'x.yaml': 'names: [a]\npath: ../..'}, 'x.yaml', 'which is no path below'),
    'yolo images out': ({'x.yaml': 'names: [a]\ntrain: /images'}, 'x.yaml', 'no path below'),
    **{
        f'yolo {line}': ({'x.yaml': 'names: [a]', 'labels/p.txt': line}, 'x.yaml', words)
        for line, words in {
            '0 .5 .5 .1 .1': 'a box, or a polygon of less than three points',
            '0 .1 .1 .2 .2 .3': 'as polygons of YOLO',
            '0 5 5 9 9 9 1': 'a point outside of 0..1',
            '0 nan 0 1 1 0 1': 'a point outside of 0..1',
            'a 0 0 1 0 0 1': 'as polygons of YOLO',
            '4 0 0 1 0 0 1': "names the class 'number 4'",
        }.items()
    },
    'labelme cut': ({'x/p.json': '{'}, 'x', 'p.json cannot be read as JSON'),
    'labelme list': ({'x/p.json': []}, 'x', 'as labels of labelme'),
    'labelme lacks': ({'x/p.json': dict(a=1)}, 'x', "it lacks 'shapes'"),
    'labelme class': ({'x/p.json': labelme(dict(ONE, label='A'))}, 'x', "(nearest: 'a'); add it"),
    'labelme size': ({'x/p.json': labelme(ONE, imageHeight=9)}, 'x', 'p.png is 4x9, the photo 4x3'),
    **{
        f'labelme {what}': ({'x/p.json': labelme(dict(ONE, **odd))}, 'x', words)
        for what, odd, words in [
            ('circle', dict(shape_type='circle'), 'a circle of 3 points; it reads polygon'),
            ('two', dict(points=[[0, 0], [1, 1]]), 'a polygon of 2 points'),
            ('far', dict(points=[[0, 0], [1e9, 0], [0, 1]]), 'points [[0, 0], [1000000000.0'),
            ('nan', dict(points=[[0, 0], [float('nan'), 0], [0, 1]]), 'points [[0, 0], [nan'),
            ('ragged', dict(points=[[0, 0], [1], [0, 1]]), 'as labels of labelme'),
            (
                'no mask',
                dict(shape_type='mask', points=[[0, 0], [1, 1]], mask='YQ=='),
                'no image of',
            ),
            (
                'mask outside',
                dict(shape_type='mask', points=[[3, 2], [4, 3]], mask=encoded([[1, 1], [1, 1]])),
                'as labels of labelme',
            ),
        ]
    },
    'cvat colour': ({'x/labelmap.txt': 'a:1,2::'}, 'x', 'as a labelmap of CVAT'),
    'cvat no colour': ({'x/labelmap.txt': 'a:::'}, 'x', 'as a labelmap of CVAT'),
    'cvat damaged': (
        {'x/labelmap.txt': 'a:0,0,1::', 'x/SegmentationClass/p.png': 'no PNG'},
        'x',
        'p.png cannot be read',
    ),
    'png of another list': (
        {'x/labels.json': dict(classes=['a', 'c']), 'x/p.png': ''},
        'x',
        "are of other classes: class 1 is 'c'",
    ),
    'png damaged': ({'x/p.png': 'no PNG'}, 'x', 'p.png cannot be read'),
}


@pytest.mark.parametrize('what', BAD)
def test_what_cannot_be_read_is_one_line(folder, what):
    files, path, words = BAD[what]
    for name, content in files.items():
        put(folder, name, content)
    with pytest.raises(UserError) as error:
        read_one(folder, path)
    assert words in str(error.value) and '\n' not in str(error.value), str(error.value)


@pytest.mark.parametrize(
    'colour, words', [((0, 0, 9), 'the colour #000009, which'), ((0, 0, 1), "names the class 'c'")]
)
def test_colours_that_are_no_class(folder, colour, words):
    put(folder, 'cvat/labelmap.txt', 'c:0,0,1::\n')
    (folder / 'cvat' / 'SegmentationClass').mkdir()
    Image.new('RGB', (4, 3), colour).save(folder / 'cvat' / 'SegmentationClass' / 'p.png')
    with pytest.raises(UserError, match=words):
        read_one(folder, 'cvat')


# Writing


def test_nothing_half_written(folder, monkeypatch):
    pairs = lay_out(
        folder, {'p.png': np.zeros((3, 4), np.uint8), 'q.png': np.zeros((3, 4), np.uint8)}
    )
    Image.new('L', (5, 5)).save(folder / 'png' / 'q.png')
    for name in WRITERS:
        with pytest.raises(UserError, match=r'q.png is 5x5, its photo 4x3'):
            write_labels(name, pairs, VOCABULARY, folder / 'out' / name, root=folder / 'photos')
    assert list((folder / 'out').iterdir()) == []


def test_what_cannot_be_written_is_told_before(folder):
    photo, root = folder / 'photos' / 'p.png', folder / 'photos'
    (folder / 'old').mkdir()
    (root / 'cvat').mkdir()
    for path in (root / 'p.jpg', root / 'cvat' / 'p.png'):
        path.write_bytes(photo.read_bytes())
    odd, new = load_vocabulary(['a:b: c']), folder / 'cvat'
    for arguments, words in {
        ('gif', (photo,), VOCABULARY, new): "no format 'gif'; there are png, coco",
        ('coco', (photo,), VOCABULARY, folder / 'old'): 'old exists; move it away',
        ('labelme', (photo, root / 'p.jpg'), VOCABULARY, new): 'would both be named p; rename one',
        ('cvat', (root / 'cvat' / 'p.png',), VOCABULARY, new): 'which is for cvat',
        ('coco', ('miniature/1/00000.png',), VOCABULARY, new): 'is no file',
        ('cvat', (photo,), odd, new): "takes no class 'a:b'",
    }.items():
        with pytest.raises(UserError, match=words):
            check_format(*arguments, root=root)
    check_format('coco', (photo, root / 'p.jpg'), odd, new, root=root)
    check_format('png', (), odd, folder / 'old', root=root)


# Command lines, on scenes of the miniature.


@pytest.fixture(scope='module')
def rendered(tmp_path_factory):
    """A folder of six scenes in photos/ and their masks in png/."""
    root = tmp_path_factory.mktemp('rendered')
    data = MiniatureDataset(scenes=6, world=1)
    for folder in ('photos', 'png'):
        (root / folder).mkdir()
    for i in range(6):
        scene = data.draw(f'miniature/1/{i:05d}.png')
        Image.fromarray(scene.image).save(root / 'photos' / f'{i:05d}.png')
        Image.fromarray(scene.mask).save(root / 'png' / f'{i:05d}.png')
    return root


def run(function, *arguments):
    """-> exit code of a command line"""
    try:
        run_command(lambda: function(list(map(str, arguments))))
    except SystemExit as end:
        return end.code
    return 0


def test_the_table_is_that_of_a_test_set(rendered, tmp_path, capsys):
    config = load_config(CONFIG, {'test_dataloader.dataset.scenes': 6})
    expected = run_config(config, work_dir=tmp_path, device='cpu')
    table = capsys.readouterr().out.partition('\nprotocol')[0]
    (rendered / 'png' / '00003.png').rename(tmp_path / '00003.png')
    photos, model = ['--photos', rendered / 'photos'], ['--model', CONFIG, '--device', 'cpu']
    assert run(run_test, *photos, '--masks', rendered / 'png', *model) == 0
    assert '\n5 of 6 photos have masks' in capsys.readouterr().out
    (tmp_path / '00003.png').rename(rendered / 'png' / '00003.png')
    scores = evaluate(rendered / 'photos', rendered / 'png', config=CONFIG, device='cpu')
    assert round(float(scores.iou.nanmean()), 4) == expected['mIoU']
    assert capsys.readouterr().out.partition('\n6 of 6')[0] == table


def test_segment_and_test(rendered, tmp_path, capsys):
    photos, words = rendered / 'photos', ['--classes', 'moon, star, sky|water']
    options = [*words, '--device', 'cpu']
    out = ['--config', CONFIG, '--out', tmp_path, '--format', 'yolo-seg']
    assert run(run_segment, photos, *options, *out) == 0
    masks = ['--masks', tmp_path / FILES['yolo-seg'], '--model', CONFIG]
    capsys.readouterr()
    assert run(run_test, '--photos', photos, *masks, *options) == 0
    printed = capsys.readouterr()
    assert 'aAcc  100.00   mIoU  100.00' in printed.out and '\nsky ' in printed.out
    assert run(run_segment, photos, *options, *out) == 1
    assert 'yolo-seg exists; move it away' in capsys.readouterr().err
    path = tmp_path / 'a.mp4'
    path.write_bytes(b'0000ftyp')
    assert run(run_segment, path, *options, '--format', 'coco', '--out', tmp_path / 'b') == 1
    assert 'is a video; --format coco is for photos' in capsys.readouterr().err


def test_pseudo_labels(rendered, tmp_path, capsys):
    (tmp_path / 'photos').mkdir()
    for path in sorted((rendered / 'photos').iterdir())[:3]:
        os.link(path, tmp_path / 'photos' / path.name)
    (tmp_path / 'photos' / 'bad.jpg').write_bytes(b'no photo')
    out = ['--out', tmp_path / 'out', '--device', 'cpu', '--threshold', 0.5, '--format', 'cvat']
    for _ in range(2):
        assert run_script('pseudo_label', CONFIG, tmp_path / 'photos', *out) == 1
    error = capsys.readouterr().err
    assert '1 photos could not be read' in error and 'cvat exists' in error
    vocabulary = load_vocabulary(load_config(CONFIG).vocabulary)
    found = [read(tmp_path, path, vocabulary) for path in ('out', 'out/cvat')]
    assert len(found[0]) == 3 and any((labels == 255).any() for labels in found[0].values())
    require_equal(found[1], found[0])


@pytest.mark.parametrize(
    'arguments, words',
    [
        ([], 'name a config, or --photos DIR and --masks'),
        (['--photos', 'x'], '--photos needs --masks'),
        (['c.py', '--masks', 'x'], '--masks needs --photos'),
        (['c.py', '--classes', 'x'], '--classes needs --photos'),
        (['--photos', 'x', '--masks', 'y', '--out', 'z'], '--out is for the test set of a config'),
        (
            ['c.py', '--model', 'd.py', '--photos', 'x', '--masks', 'y'],
            'two models: c.py and --model',
        ),
    ],
)
def test_options_that_exclude_each_other(arguments, words):
    with pytest.raises(UserError, match=words):
        parse_test(arguments)


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['x.tar', '--part', '1/2'], 'is written by one process'),
        (['x.tar'], 'is for folders of photos, not for tars'),
        (['--photos-of', STUDENT], 'is no file, which formats other than png need'),
    ],
)
def test_pseudo_labels_that_have_no_format(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.tar').write_bytes(b'')
    options = ['--out', 'out', '--format', 'coco', '--device', 'cpu']
    assert run_script('pseudo_label', CONFIG, *arguments, *options) == 1
    assert words in capsys.readouterr().err
