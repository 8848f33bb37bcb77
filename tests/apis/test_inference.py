"""Own photos and own words: the Python functions and the command line, on the miniature."""

import importlib.util
import io
import json
import os
import threading
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from mmseg.apis import init_model, segment, show_result_pyplot
from mmseg.apis.command import run_command
from mmseg.apis.command_lines import run_segment as main
from mmseg.apis.segment_files import segment_photos
from mmseg.apis.words import words_of
from mmseg.clip.text_encoder import text_embeddings
from mmseg.datasets.miniature import LABELS, STUFF, MiniatureDataset
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.models import Windows
from mmseg.vocabularies import distinct_palette, load_vocabulary

CONFIG = ROOT / 'configs' / 'miniature' / 'maskclip_rn.py'
THINGS = 'circle, square, triangle, star, ring, cross, heart, moon'


@pytest.fixture(scope='module')
def model():
    return init_model(CONFIG, device='cpu')


def scene(index):
    dataset = MiniatureDataset(scenes=500, world=1)
    drawn = dataset.draw(dataset.get_data_info(index)['img_path'])
    return drawn.image, drawn.mask


def test_labels_are_those_of_the_test_tool(model):
    """The same pipeline, network and upsampling as `tools/test.py`."""
    config = load_config(CONFIG)
    image, _ = scene(3)
    from mmseg.apis.test import require_data
    from mmseg.registry import MODELS

    network = MODELS.build(config.model)
    sample = require_data(config.test_dataloader)[3]
    expected = network([sample['inputs']], [sample['data_samples']], mode='predict')[0]
    found = segment(model, image)
    assert np.array_equal(found.labels, expected.pred_sem_seg.numpy())
    assert found.names == LABELS


def test_every_kind_of_image_gives_the_same(model, tmp_path):
    image, _ = scene(0)
    Image.fromarray(image).save(tmp_path / 'a.png')
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    kinds = [image, tensor, Image.fromarray(image), tmp_path / 'a.png', str(tmp_path / 'a.png')]
    found = segment(model, kinds)
    for other in found[1:]:
        assert np.array_equal(other.labels, found[0].labels)
        assert torch.equal(other.scores, found[0].scores)


def test_other_words_on_a_loaded_model(model):
    image, _ = scene(0)
    few = segment(model, image, 'moon, sky')
    assert few.names == ('moon', 'sky') and set(np.unique(few.labels)) <= {0, 1}
    whole = segment(model, image)
    torch.testing.assert_close(few.scores[1], whole.scores[LABELS.index('sky')])
    named = segment(model, image, ['moon | star', 'sky'])
    assert named.names[0] == 'moon' and not torch.equal(named.scores[0], few.scores[0])


def test_background_threshold_and_weight(model):
    image, mask = scene(5)
    merged = segment(model, image, THINGS, background=STUFF)
    whole = segment(model, image, [*THINGS.split(','), *STUFF])
    assert merged.names[-1] == 'background' and len(merged.names) == 9
    torch.testing.assert_close(merged.scores[-1], whole.scores[8:].amax(dim=0))
    strict = segment(model, image, threshold=1.0)
    assert (strict.labels == 255).any() and (strict.labels[strict.labels != 255] < 14).all()
    assert 0 <= strict.probability.min() and strict.probability.max() <= 1 + 1e-6
    weighed = segment(model, image, tau=0.1)
    assert not torch.equal(weighed.scores, segment(model, image).scores)


def vit(**options):
    """A miniature ViT with patches of 8 pixels, on photos as they are"""
    steps = [dict(type='RenderScene'), dict(type='PackSegInputs')]
    options = {'protocol': None, 'test_dataloader.dataset.pipeline': steps} | options
    return init_model(CONFIG.with_name('maskclip_vit.py'), device='cpu', cfg_options=options)


def placed(network, scores, size):
    """(1, Q, h, w) on the grid of a padded input of (H, W) -> (Q, H, W) probabilities there"""
    height, width = size
    padded = [cells * network.score_stride for cells in scores.shape[2:]]
    full = torch.nn.functional.interpolate(scores, padded, mode='bilinear')
    return (full[0, :, :height, :width] * network.scoring.scale).softmax(dim=0)


def test_confidence_is_not_stretched_by_padding():
    model = vit()
    photo = Image.fromarray(scene(0)[0]).resize((65, 65))
    found = segment(model, photo)
    expected = placed(model.network(words_of(model)), found.scores[None], (65, 65)).amax(dim=0)
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    one = segment(model, photo, window=72)
    np.testing.assert_allclose(one.probability, found.probability, atol=1e-5)
    assert segment(model, np.zeros((1, 1, 3), np.uint8)).probability.shape == (1, 1)


@pytest.mark.parametrize(
    'options',
    [
        {'model.scoring': dict(synonyms='max')},
        {'model.scoring': dict(area_thd=0.3), 'model.post': dict(type='Superpixels', segments=9)},
        {'model.scoring': dict(prob_thd=0.9)},
    ],
)
def test_confidence_is_the_shown_labels(options):
    model = vit(vocabulary=['moon|star', 'grass', 'background: sky|sand'], **options)
    network = model.network(words_of(model))
    photo = torch.from_numpy(scene(1)[0][:61]).permute(2, 0, 1)
    found = segment(model, photo)
    queries = placed(network, network.batch_logits(photo[None].float()), photo.shape[1:])
    expected = network.scoring.by_class(queries.detach())
    expected = expected.gather(0, torch.from_numpy(found.labels)[None].long())[0]
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)


def test_a_word_may_name_its_colour():
    names, palette = words_of(None, 'dog | puppy #ff8800, sky').classes()
    assert names == ('dog', 'sky')
    assert palette == ((255, 136, 0), *distinct_palette(1, [(255, 136, 0)]))


def test_confidence_behind_pamr_is_of_the_refined_scores():
    flat = {'model.scoring.scale': 10}  # CLIP's 100 is sure of both words everywhere
    sure = [
        segment(vit(**flat, **options), scene(1)[0], 'moon, sky').probability
        for options in ({}, {'model.post': dict(type='PAMR', steps=3)})
    ]
    assert not np.allclose(*sure, atol=1e-3) and sure[1].max() <= 1


def slide(network, image, *settings):
    """(3, H, W), those of `Windows` -> (C, h, w) mean scores"""
    windows = Windows(*settings)
    (maps,) = network.query_logits([image], windows=windows)
    return network.to_input_grid(maps, image.shape[1:], windows)


def test_one_window_is_the_whole_photo_and_more_cover_all(model):
    network = model.network(words_of(model))
    image = torch.from_numpy(scene(0)[0]).permute(2, 0, 1).float()
    image = torch.nn.functional.interpolate(image[None], (128, 160))[0]
    once = slide(network, image, 160, 160)
    torch.testing.assert_close(once, network.scores(image[None])[0])
    many = slide(network, image, 96, 32, 3)
    assert many.shape == once.shape and many.isfinite().all()
    flat = slide(network, torch.full((3, 128, 160), 90.0), 96, 32)
    assert flat.std(dim=(1, 2)).max() < 0.05


def test_windows_of_any_photo(model):
    photo = Image.fromarray(scene(0)[0]).resize((301, 97))
    found = segment(model, photo, window=64)
    assert found.labels.shape == (97, 301)


def test_threads_do_not_disturb_each_other(model):
    image, _ = scene(0)
    words = ['moon, sky', 'star, grass', THINGS]
    expected = {w: segment(model, image, w).labels for w in words}
    wrong = []

    def work(word):
        for _ in range(3):
            if not np.array_equal(segment(model, image, word).labels, expected[word]):
                wrong.append(word)

    threads = [threading.Thread(target=work, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pictures_and_files(model, tmp_path):
    found = segment(model, scene(0)[0])
    assert Image.open(io.BytesIO(found._repr_png_())).size[1] >= 64
    found.save(tmp_path / 'a.jpg')
    found.save_labels(tmp_path / 'a.png')
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'a.png')), found.labels)
    shares = [entry['share'] for entry in found.summary().values()]
    assert sum(shares) == pytest.approx(1, abs=1e-3) and shares == sorted(shares, reverse=True)
    picture = show_result_pyplot(model, None, found, show=False, out_file=tmp_path / 'b.png')
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'b.png')), picture)
    with pytest.raises(UserError, match='cannot write'):
        found.save(tmp_path / 'a.unknown')


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(classes=''), 'no class is named'),
        (dict(classes=[]), 'no class is named'),
        (dict(classes='moon, moon'), 'names twice: moon'),
        (dict(classes='moon,, sky'), 'an empty class name'),
        (dict(classes='dog'), 'never learned the words dog'),
        (dict(classes='\N{DOG FACE}'), 'never learned the words \N{DOG FACE};'),
        (dict(classes=' '.join(['moon'] * 200)), 'too long: CLIP reads up to'),
        (dict(classes='moon', templates='fancy'), 'no prompt templates'),
        (dict(classes='moon', tau=-1), 'tau must be a number from 0.0001 to 10000.0'),
        (dict(classes=5), 'classes are names, .* 5 is none'),
        (dict(classes=['moon', 5]), 'classes are names, .* 5 is none'),
        (dict(classes='moon', background=[None]), 'classes are names, .* None is none'),
        (dict(templates=['a {}']), 'templates is a name of templates'),
        (dict(tau='a'), 'tau must be a number from 0.0001 to 10000.0'),
        (dict(threshold=2), 'threshold is a probability'),
        (dict(threshold='a'), "threshold is a probability in 0..1, not 'a'"),
        (dict(window=0), 'window is a number of pixels'),
        (dict(window=64.5), 'window is a number of pixels, not 64.5'),
        (dict(window=1), 'windows.size is 1 pixels, less than a patch of 32'),
        (dict(stride=8), 'stride needs a window'),
    ],
)
def test_bad_words_and_settings(model, options, words):
    with pytest.raises(UserError, match=words):
        segment(model, scene(0)[0], **options)


@pytest.mark.parametrize('image', [np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8), None, 7])
def test_bad_images(model, image):
    with pytest.raises(UserError, match='an image is a path'):
        segment(model, image)


@pytest.mark.parametrize('name', ['\N{CAT FACE}', '\u0441\u043e\u0431\u0430\u043a\u0430', '\u72ac'])
def test_words_that_clip_did_not_learn_are_said_once(name, monkeypatch, caplog):
    monkeypatch.setattr(
        'mmseg.clip.text_encoder.embed_prompts', lambda clip, prompts, *_, **__: prompts
    )
    clip = SimpleNamespace(has_text=True, source='random', text_cfg={})
    for names in [('caf\u00e9', 'traffic light 2'), ('dog', name), ('dog', name)]:
        text_embeddings(clip, load_vocabulary(list(names)), 'plain')
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and name in said[0] and 'dog' not in said[0]


def test_one_pixel(model):
    assert segment(model, np.zeros((1, 1, 3), np.uint8)).labels.shape == (1, 1)


def run_segment(*arguments):
    out, error, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(error):
        try:
            run_command(lambda: main([str(a) for a in arguments]))
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), error.getvalue()


def test_command_on_a_folder_with_a_bad_photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, mode in enumerate(('RGB', 'L', 'RGBA', 'P', 'CMYK')):
        image = Image.fromarray(scene(i)[0]).convert(mode)
        image.save(tmp_path / f'{i}.{"jpg" if mode == "CMYK" else "png"}')
    (tmp_path / 'bad.jpg').write_bytes((tmp_path / '4.jpg').read_bytes()[:200])
    (tmp_path / '._0.png').write_bytes(b'what macOS leaves')
    options = ['--config', CONFIG, '--out', tmp_path / 'out', '--save-scores', '--device', 'cpu']
    code, out, error = run_segment(tmp_path, '--classes', 'moon, sky|water', *options)
    assert code == 1 and '5 of 6 photos' in out
    assert f'skipped: the image {tmp_path / "bad.jpg"}' in error
    assert error.strip().splitlines()[-1].startswith('error: 1 of 6 photos')
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert len(names) == 16 and {'0_labels.png', '0_overlay.png', '0_scores.npz'} <= set(names)
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert set(results[str(tmp_path / '0.png')]) <= {'moon', 'sky'}
    scores = np.load(tmp_path / 'out' / '0_scores.npz')
    assert scores['names'].tolist() == ['moon', 'sky'] and scores['scores'].shape[0] == 2


def test_a_bad_name_loses_no_other_photo(tmp_path):
    """Outputs get suffixes: a photo's name may be too long for them, or no UTF-8 at all."""
    folder, long, strange = tmp_path / 'in', f'{"x" * 245}.png', os.fsdecode(b'\xff.png')
    folder.mkdir()
    for name in (long, strange, 'a.png'):
        Image.fromarray(scene(0)[0]).save(folder / name)
    options = ['--config', CONFIG, '--save-scores', '--device', 'cpu']
    code, out, error = run_segment(folder, '--out', tmp_path / 'out', *options)
    assert code == 1 and '2 of 3 photos' in out and 'File name too long' in error
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert set(results) == {str(folder / 'a.png'), str(folder / strange)}
    assert (tmp_path / 'out' / os.fsdecode(b'\xff_labels.png')).is_file()


def test_a_run_that_is_stopped_keeps_its_results(model, tmp_path, monkeypatch):
    photos = [tmp_path / 'a.png', tmp_path / 'b.png']
    for path in photos:
        Image.fromarray(scene(0)[0]).save(path)

    def stop_at_b(model, path, **options):
        if path.name == 'b.png':
            raise KeyboardInterrupt
        return segment(model, path, **options)

    monkeypatch.setattr('mmseg.apis.segment_files.segment', stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        segment_photos(model, photos, tmp_path, {}, False)
    assert list(json.loads((tmp_path / 'results.json').read_text())) == [str(photos[0])]


@pytest.mark.parametrize('name', [b'list.mp4', b'\xff.mp4'])
def test_videos_that_are_not_passed_to_opencv(name, tmp_path):
    """It reads lists of other files, and ends with SIGSEGV on names that are no UTF-8."""
    text = b'ffconcat version 1.0\nfile a.avi\n' if name == b'list.mp4' else b'0000ftyp'
    (tmp_path / os.fsdecode(name)).write_bytes(text)
    code, _, error = run_segment(tmp_path / os.fsdecode(name), '--out', tmp_path / 'out')
    assert code == 1 and error.startswith('error: ') and 'mp4' in error and 'is no ' in error


def test_command_reads_what_cameras_and_the_web_give(tmp_path):
    image = Image.fromarray(scene(0)[0])
    image.save(tmp_path / 'a.png')
    image.save(tmp_path / 'web.webp', lossless=True)
    Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) << 8).save(tmp_path / '16.png')
    image.convert('L').save(tmp_path / '8.png')
    names = ['16', '8', 'a', 'web']
    if importlib.util.find_spec('pillow_heif'):
        image.save(tmp_path / 'phone.heic', quality=-1)
        names.append('phone')
    code, _, error = run_segment(tmp_path, '--config', CONFIG, '--out', tmp_path / 'out')
    assert code == 0, error
    found = {name: np.asarray(Image.open(tmp_path / f'out/{name}_labels.png')) for name in names}
    assert np.array_equal(found['web'], found['a'])
    assert np.array_equal(found['16'], found['8'])
    assert 'phone' not in names or (found['phone'] == found['a']).mean() > 0.99


def test_command_on_a_photo_that_is_too_large(tmp_path):
    Image.new('1', (20_000, 20_000)).save(tmp_path / 'large.png')
    options = ['--config', CONFIG, '--out', tmp_path / 'out']
    code, _, error = run_segment(tmp_path / 'large.png', *options)
    assert code == 1 and 'Traceback' not in error
    assert f'{tmp_path / "large.png"} has more than 179 megapixels; shrink it' in error


def test_command_on_a_checkpoint_of_another_model(tmp_path):
    torch.save({'state_dict': {'decode_head.weight': torch.zeros(3)}}, tmp_path / 'other.pth')
    student = CONFIG.with_name('maskclip_plus_rn_segformer_b0.py')
    Image.fromarray(scene(0)[0]).save(tmp_path / 'a.png')
    for config in (CONFIG, student):
        options = ['--config', config, '--checkpoint', tmp_path / 'other.pth']
        code, _, error = run_segment(tmp_path / 'a.png', '--out', tmp_path / 'out', *options)
        assert code == 1 and 'Traceback' not in error
        assert str(tmp_path / 'other.pth') in error.splitlines()[-1]


def test_command_on_a_video(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 64))
    for i in range(3):
        writer.write(scene(i)[0][..., ::-1].copy())
    writer.release()
    options = ['--config', CONFIG, '--device', 'cpu', '--out', tmp_path / 'out']
    code, out, error = run_segment(path, *options)
    assert code == 0, error
    reader = cv2.VideoCapture(str(tmp_path / 'out' / 'clip_overlay.mp4'))
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    (tmp_path / 'none.mp4').write_bytes(b'no video')
    code, out, error = run_segment(tmp_path / 'none.mp4', *options)
    assert code == 1 and 'has no frame' in error.splitlines()[-1]


def test_command_without_weights_says_what_it_uses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mmseg.apis.segment_files.try_to_load_from_cache', lambda *_: None)
    Image.fromarray(scene(0)[0]).save(tmp_path / 'a.png')
    code, _, error = run_segment('a.png', '--classes', 'moon, sky', '--out', 'out')
    assert code == 0 and error.startswith('no CLIP is fetched yet')


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['nowhere'], 'no such photo or folder: nowhere'),
        (['nowhere.mp4'], 'no such video'),
        (['.'], 'no photo in'),
        (['a.png', '--out', '.'], 'could be overwritten'),
        (['a.png', '--config', 'a.png'], 'is no Python file'),
        (['a.png', '--threshold', '3', '--config', str(CONFIG)], 'threshold is a probability'),
        (['a.png', '--window', '-4', '--config', str(CONFIG)], 'window is a number of pixels'),
        (['a.png', '--window', '4', '--config', str(CONFIG)], 'less than a patch of'),
        (['a.png', '--classes', 'dog', '--config', str(CONFIG)], 'never learned'),
        (['a.png', '--checkpoint', 'a.png', '--config', str(CONFIG)], 'a PNG picture'),
    ],
)
def test_command_with_bad_arguments(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if '.' not in arguments[0] or len(arguments[0]) > 1:
        Image.fromarray(scene(0)[0]).save(tmp_path / 'a.png')
    code, _, error = run_segment(*arguments)
    assert code == 1 and words in error.splitlines()[-1], error
    assert 'Traceback' not in error


def test_photos_are_turned_as_their_exif_says(model, tmp_path):
    upright = Image.fromarray(scene(0)[0]).resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / 'a.png', exif=exif)
    assert turned.size == (64, 96)
    found = segment(model, [tmp_path / 'a.png', Image.open(tmp_path / 'a.png'), upright])
    assert np.array_equal(found[0].labels, found[2].labels)
    assert np.array_equal(found[1].labels, found[2].labels)


def test_pil_images_are_read_as_files_are(model, tmp_path):
    grey = np.asarray(Image.fromarray(scene(0)[0]).convert('L')).astype(np.uint16) << 8
    Image.fromarray(grey).save(tmp_path / '16.png')
    file, opened = segment(model, [tmp_path / '16.png', Image.open(tmp_path / '16.png')])
    assert np.array_equal(opened.photo, file.photo) and 0 < opened.photo.mean() < 255
    Image.fromarray(scene(0)[0]).save(tmp_path / 'a.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'a.png').read_bytes()[:900])
    with pytest.raises(UserError, match='the image .*cut.png cannot be read'):
        segment(model, Image.open(tmp_path / 'cut.png'))
    with pytest.raises(UserError, match='an image is a path'):
        segment(model, Image.new('RGB', (0, 4)))
