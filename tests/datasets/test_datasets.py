import numpy as np
import pytest
from conftest import ROOT
from PIL import ExifTags, Image

from mmseg.apis.test import require_data
from mmseg.datasets import (
    Corrupt,
    ImageFolderDataset,
    LoadAnnotations,
    LoadImage,
    PackSegInputs,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
    RandomCrop,
    Resize,
    ResizeShortSide,
    SegDataset,
)
from mmseg.datasets.reading import crop_for_prior, read_mask, read_photo
from mmseg.engine import load_config
from mmseg.errors import UserError


def dataset(photos, **options):
    options = (
        dict(vocabulary=['a', 'b', 'c'], reduce_zero_label=True, split='ImageSets/val.txt')
        | options
    )
    return SegDataset(
        data_root=str(photos), img_dir='JPEGImages', ann_dir='SegmentationClass', **options
    )


def test_from_files_to_inputs(photos):
    data = dataset(
        photos,
        prior_crop_size=224,
        pipeline=[LoadImage(), Resize((40, 40)), LoadAnnotations(), PackSegInputs()],
    )
    assert len(data) == 5 and data.metainfo['classes'] == ('a', 'b', 'c')
    item = data[1]
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 40, 27) and str(item['inputs'].dtype) == 'torch.uint8'
    assert sample.ori_shape == (75, 50) and sample.prior_crop.shape == (3, 224, 224)
    raw = np.asarray(Image.open(photos / 'SegmentationClass' / 'p1.png')).astype(int)
    expected = np.where((raw == 0) | (raw == 255), 255, raw - 1)
    assert np.array_equal(sample.gt_sem_seg, expected)


def test_a_large_jpeg_is_decoded_at_the_size_that_suffices(tmp_path):
    """A quarter's pixels are the means of 4 x 4; the labels keep the size of the file."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    photo, turned = Image.fromarray(coarse).resize((640, 480)), Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # by a quarter
    photo.save(tmp_path / 'a.jpg', quality=95, exif=turned)
    photo.save(tmp_path / 'a.png')
    quarter, png = LoadImage(at_least=(150, 120)), dict(img_path=tmp_path / 'a.png')
    results = quarter(dict(img_path=tmp_path / 'a.jpg'))
    assert results['img'].shape == (160, 120, 3) and results['ori_shape'] == (640, 480)
    whole = LoadImage()(dict(img_path=tmp_path / 'a.jpg'))['img'].astype(float)
    means = whole.reshape(160, 4, 120, 4, 3).mean((1, 3))
    assert np.abs(results['img'] - means).max() < 4
    assert quarter(png)['img'].shape == (480, 640, 3)
    assert LoadImage(at_least=(400, 100))(results)['img'].shape == (640, 480, 3)
    quarter(results)['gt_sem_seg'] = np.zeros(results['ori_shape'], np.uint8)
    with pytest.raises(UserError, match='needs a RandomResize first'):
        RandomCrop(32)(results | dict(rng=np.random.default_rng(0)))


@pytest.fixture
def own_photos(tmp_path):
    """A user's folder 'my photos' of mixed formats; two of the four have masks in 'my masks'."""
    for folder in ('my photos/a trip', 'my masks/a trip'):
        (tmp_path / folder).mkdir(parents=True)
    for name in ('first one.jpg', 'second one.png', 'a trip/third.JPG', 'a trip/last.webp'):
        Image.new('RGB', (8, 6), (9, 9, 9)).save(tmp_path / 'my photos' / name)
    for name in ('second one', 'a trip/third'):
        Image.new('L', (8, 6), 2).save(tmp_path / 'my masks' / f'{name}.png')
    return tmp_path


def test_own_photos_need_no_list(own_photos):
    options = dict(data_root=str(own_photos), img_dir='my photos')
    options['pipeline'] = [LoadImage(), LoadAnnotations(), PackSegInputs()]
    data = SegDataset(['a', 'b', 'c'], ann_dir='my masks', **options)
    paths = [data.get_data_info(i)['img_path'] for i in range(len(data))]
    names = [path.removeprefix(f'{own_photos}/my photos/') for path in paths]
    assert names == ['a trip/third.JPG', 'second one.png']
    assert all((data[i]['data_samples'].gt_sem_seg == 2).all() for i in range(2))
    assert len(SegDataset(['a', 'b', 'c'], ann_dir=None, **options)) == 4
    (own_photos / 'list.txt').write_text('second one\n')
    options |= dict(split='list.txt', img_suffix='.png')
    assert len(SegDataset(['a', 'b', 'c'], ann_dir='my masks', **options)) == 1


def test_masks_beside_their_photos(own_photos):
    options = dict(data_root=str(own_photos), img_dir='my photos', ann_dir='my photos')
    Image.new('L', (8, 6)).save(own_photos / 'my photos' / 'first one_labels.png')
    data = SegDataset(['a'], seg_map_suffix='_labels.png', **options)
    assert [row['img_path'][-13:] for row in map(data.get_data_info, range(len(data)))] == [
        'first one.jpg'
    ]


def test_bad_folders_of_masks(own_photos):
    options = dict(data_root=str(own_photos), img_dir='my photos')
    with pytest.raises(UserError, match=r'no mask \*.png in .*/gone'):
        SegDataset(['a'], ann_dir='gone', **options)
    Image.new('L', (8, 6)).save(own_photos / 'my masks' / 'other.png')
    with pytest.raises(UserError, match='1 masks have no photo of their name in .*other.png'):
        SegDataset(['a'], ann_dir='my masks', **options)


def test_published_defaults(photos, tmp_path):
    """Each data set's own folders, list and treatment of id 0."""
    for cls, folder, names, zero in (
        (PascalContextDataset59, 'SegmentationClassContext', 'SegmentationContext', True),
        (PascalContextDataset, 'SegmentationClassContext', 'SegmentationContext', False),
        (PascalVOCDataset, 'SegmentationClass', 'Segmentation', True),
    ):
        root = tmp_path / cls.__name__
        for path in ('JPEGImages/x.jpg', f'{folder}/x.png'):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        (root / 'ImageSets' / names).mkdir(parents=True)
        (root / 'ImageSets' / names / 'val.txt').write_text('x\n')
        data = cls(data_root=str(root))
        assert data.reduce_zero_label is zero
        assert data.get_data_info(0)['seg_map_path'] == str(root / folder / 'x.png')
    assert not PascalVOCDataset(vocabulary='voc_21', data_root=str(root)).reduce_zero_label


@pytest.mark.parametrize(
    'size, expected',
    [
        ((500, 375), (520, 390)),
        ((375, 500), (390, 520)),
        ((333, 500), (346, 520)),
        ((1000, 10), (520, 5)),
    ],
)
def test_resize_fits_inside(size, expected):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert Resize((520, 520))(dict(img=image))['img'].shape == (expected[1], expected[0], 3)


def test_resize_short_side_rounds_both_to_the_multiple():
    image = np.zeros((375, 500, 3), np.uint8)
    assert ResizeShortSide(448, 32)(dict(img=image))['img'].shape == (448, 608, 3)


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'CMYK', 'I;16', '1'])
def test_photos_of_every_mode(tmp_path, mode):
    image = (
        Image.fromarray(np.full((4, 6), 200, np.uint16))
        if mode == 'I;16'
        else Image.new('RGB', (6, 4), (10, 200, 30)).convert(mode)
    )
    path = tmp_path / f'photo.{"tif" if mode == "CMYK" else "png"}'
    image.save(path)
    pixels = np.asarray(read_photo(path))
    assert pixels.shape == (4, 6, 3)
    if mode == 'I;16':
        assert (pixels == 200 // 256).all()  # the upper byte


@pytest.mark.parametrize('size', [(500, 375), (333, 500), (225, 224), (60, 81), (1000, 10)])
def test_crop_for_prior_against_torchvision(size):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, resize

    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    photo = Image.fromarray(noise)
    expected = center_crop(resize(photo, 224, InterpolationMode.BICUBIC, antialias=True), 224)
    assert np.array_equal(crop_for_prior(photo, 224), expected)


def test_exif_rotation_is_honoured(tmp_path):
    image = Image.new('RGB', (6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / 'turned.jpg', exif=exif)
    assert read_photo(tmp_path / 'turned.jpg').size == (4, 6)


def test_folder_of_photos(photos):
    data = ImageFolderDataset(
        ['a', 'b'], str(photos), pipeline=[LoadImage(), LoadAnnotations(), PackSegInputs()]
    )
    assert len(data) == 10  # the masks are photos too, here
    assert 'gt_sem_seg' not in data[0]['data_samples']
    one = ImageFolderDataset(['a'], str(photos / 'JPEGImages' / 'p0.jpg'))
    assert len(one) == 1


def test_the_config_of_a_folder_points_at_photos():
    name = 'maskclip/maskclip_vit16_clip_numerics_520x520_image_folder.py'
    config = load_config(ROOT / 'configs' / name)
    assert len(require_data(config.test_dataloader)) >= 2


# Bad input: one line that names the file


def test_bad_photos(photos):
    path = photos / 'JPEGImages' / 'p0.jpg'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match='p0.jpg cannot be read: .*truncated'):
        read_photo(path)
    path.write_text('no photo')
    with pytest.raises(UserError, match='p0.jpg cannot be read: no image'):
        read_photo(path)
    with pytest.raises(UserError, match='no such image: .*gone.jpg'):
        read_photo(photos / 'gone.jpg')


@pytest.mark.parametrize(
    'mask, message',
    [
        (Image.new('RGB', (80, 60)), 'has RGB pixels'),
        (Image.new('L', (60, 80)), 'is 60x80, its photo 80x60'),
        (Image.new('L', (80, 60), 7), 'holds the ids 7, but there are 3 classes'),
    ],
)
def test_bad_masks(tmp_path, mask, message):
    mask.save(tmp_path / 'm.png')
    with pytest.raises(UserError, match=f'm.png {message}'):
        read_mask(tmp_path / 'm.png', (60, 80), num_classes=3, reduce_zero_label=True)


def test_more_than_255_classes(tmp_path):
    """Ids 255 and 256 are classes there; 65535 is ignored."""
    ids = np.array([[0, 1, 255, 256, 459, 65535]], np.uint16)
    Image.fromarray(ids).save(tmp_path / 'm.png')
    options = dict(num_classes=459, reduce_zero_label=True)
    found = read_mask(tmp_path / 'm.png', ids.shape, **options)
    assert found.tolist() == [[65535, 0, 254, 255, 458, 65535]]


def test_bad_lists(photos):
    with pytest.raises(UserError, match='split list .*other.txt cannot be read'):
        dataset(photos, split='other.txt')
    (photos / 'empty.txt').write_text('\n')
    with pytest.raises(UserError, match='empty.txt is empty'):
        dataset(photos, split='empty.txt')
    (photos / 'twice.txt').write_text('p0\np1\np0\n')
    with pytest.raises(UserError, match='twice.txt names twice: p0'):
        dataset(photos, split='twice.txt')
    (photos / 'many.txt').write_text('\n'.join(f'q{i}' for i in range(8)))
    with pytest.raises(UserError, match='names 16 files that do not exist: .* and 6 more'):
        dataset(photos, split='many.txt')


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match='no such photo or folder: .*gone'):
        ImageFolderDataset(['a'], str(tmp_path / 'gone'))
    with pytest.raises(UserError, match='no photo in'):
        ImageFolderDataset(['a'], str(tmp_path))
    with pytest.raises(UserError, match='ImageFolderDataset needs data_root, a folder of photos'):
        ImageFolderDataset(['a'], None)


def test_a_corruption_repeats_itself_and_reaches_the_crop_for_the_prior():
    corruptions = pytest.importorskip('imagecorruptions')
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)

    def corrupted(seed, name='shot_noise'):
        results = dict(img=photo, prior_crop=photo[:32, :32], rng=np.random.default_rng(seed))
        return Corrupt(name, 3)(results)

    before = np.random.get_state()[1].copy()
    first, again, other = corrupted(0), corrupted(0), corrupted(1)
    assert np.array_equal(first['img'], again['img'])
    assert not np.array_equal(first['img'], other['img'])
    assert np.array_equal(np.random.get_state()[1], before)
    assert corrupted(0, 'contrast')['prior_crop'].std() < photo.std() / 2
    expected = corruptions.corrupt(photo, 3, 'jpeg_compression')
    assert np.array_equal(corrupted(0, 'jpeg_compression')['img'], expected)
    with pytest.raises(UserError, match="no corruption is named 'rain'"):
        Corrupt('rain', 1)
