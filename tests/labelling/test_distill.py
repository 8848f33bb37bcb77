"""`maskclip distill`: from photos and words to a student and a report."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import load_file

from mmseg.apis import distill, init_model, segment
from mmseg.datasets import ImageFolderDataset, LoadAnnotations, LoadImage, MiniatureDataset
from mmseg.datasets.miniature import LABELS
from mmseg.datasets.reading import list_photos
from mmseg.errors import UserError
from mmseg.labelling.command import run_distill
from mmseg.labelling.distill import _corrections, _iterations_in
from mmseg.vocabularies import load_vocabulary

WORDS = ', '.join(LABELS)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A folder of twelve scenes, and one of their masks."""
    root, data = tmp_path_factory.mktemp('photos'), MiniatureDataset(scenes=12, world=2)
    for kind in ('photos', 'masks'):
        (root / kind / 'sub folder').mkdir(parents=True)
    for i in range(12):
        scene, name = data.draw(f'{i:05d}'), f'{"sub folder/" if i % 2 else ""}scene {i}.png'
        Image.fromarray(scene.image).save(root / 'photos' / name)
        Image.fromarray(scene.mask).save(root / 'masks' / name)
    return root


@pytest.mark.parametrize(
    ('photos', 'minutes', 'expected'),
    [(400, 20, 400), (12, 20, 300), (400, 1, 120), (4000, 20, 2400)],
)
def test_the_length_of_a_training(tmp_path, monkeypatch, photos, minutes, expected):
    """At 0.5 s an iteration of eight photos: eight passes or 300 iterations, if they fit."""
    hub = SimpleNamespace(get_scalar=lambda name: SimpleNamespace(mean=lambda window: 0.5))
    config = Config(dict(train_dataloader=dict(batch_size=8)))
    monkeypatch.setattr('mmseg.labelling.distill.student_config', lambda *_: config)
    monkeypatch.setattr(
        'mmseg.labelling.distill.train', lambda *_, **__: SimpleNamespace(message_hub=hub)
    )
    listed = tmp_path / 'train.txt'
    listed.write_text('photo.jpg\n' * photos)
    assert _iterations_in(dict(minutes=minutes), tmp_path, dict(train=listed), 'cpu') == expected


def test_photos_become_a_student_and_a_report(photos, tmp_path, capsys):
    command = [photos / 'photos', '--classes', WORDS, '--out', tmp_path, '--iterations', 3]
    command += ['--val-masks', photos / 'masks', '--held-out', 0.25, '--device', 'cpu']
    command += ['--review', 2, '--format', 'coco']
    run_distill([str(word) for word in command])
    assert str(tmp_path / 'report.html') in capsys.readouterr().out
    held, trained = ((tmp_path / f'{x}.txt').read_text().split('\n') for x in ('held_out', 'train'))
    assert len(held) == 3 + 1 and len(trained) == 9 + 1 and not set(held[:3]) & set(trained[:9])
    report = (tmp_path / 'report.html').read_text()
    assert report.count('data:image/jpeg') == 3 and 'Against the masks' in report
    assert all(f'</i>{word}' in report for word in WORDS.split(', '))
    assert 'http' not in report  # it opens anywhere
    model = init_model(tmp_path / 'config.py', tmp_path / 'student.safetensors', 'cpu')
    assert segment(model, photos / 'photos' / 'scene 0.png').labels.shape == (64, 64)
    assert (tmp_path / 'student.onnx').stat().st_size > 1e6
    written = (tmp_path / 'student.onnx').stat().st_mtime_ns
    run_distill([str(word) for word in command])  # it is done: nothing is trained again
    assert (tmp_path / 'student.onnx').stat().st_mtime_ns == written
    assert len(list((tmp_path / 'training').glob('*.py'))) == 1
    assert (tmp_path / 'coco' / 'annotations.json').is_file()

    # What was written for review, given back unchanged, is the labels of the two photos.
    (tmp_path / 'review' / 'labelme').rename(tmp_path / 'corrections')
    words, paths = load_vocabulary(list(LABELS)), list_photos(photos / 'photos')
    corrected = _corrections(tmp_path, photos / 'photos', paths, words)
    assert len(corrected) == 2
    for name in corrected:
        pair = (np.asarray(Image.open(tmp_path / x / name)) for x in ('corrected', 'labels'))
        assert np.array_equal(*pair)
    next((tmp_path / 'corrections').rglob('*.json')).unlink()  # one is taken back
    assert len(_corrections(tmp_path, photos / 'photos', paths, words)) == 1
    assert len(list((tmp_path / 'corrected').rglob('*.png'))) == 1


def test_corrections_are_labels_and_the_rest_is_the_teachers(photos, tmp_path):
    by_hand = np.full((64, 64), 255, np.uint8)
    by_hand[:8] = 3
    (tmp_path / 'sub folder').mkdir()
    Image.fromarray(by_hand).save(tmp_path / 'sub folder' / 'scene 1.png')
    (tmp_path / 'list.txt').write_text('scene 0.png\nsub folder/scene 1.png\n')
    data = ImageFolderDataset(
        list('abcd'),
        photos / 'photos',
        listed=tmp_path / 'list.txt',
        corrections=tmp_path,
        pipeline=[LoadImage(), LoadAnnotations('ignored')],
    )
    assert len(data) == 2
    assert (data[0]['gt_sem_seg'] == -1).all()
    target = data[1]['gt_sem_seg']
    assert (target[:8] == 3).all() and (target[8:] == -1).all()


@pytest.mark.parametrize(
    'file, said',
    [
        ('scene 99.png', 'corrects no photo'),
        ('scene 0.png', 'is 8x8, its photo 64x64'),
        ('scene 2.png', 'holds the ids 14'),
    ],
)
def test_wrong_corrections_are_one_line(photos, tmp_path, file, said):
    size = 8 if file == 'scene 0.png' else 64
    (tmp_path / 'corrections').mkdir()
    Image.fromarray(np.full((size, size), 14, np.uint8)).save(tmp_path / 'corrections' / file)
    with pytest.raises(UserError, match=said):
        distill(photos / 'photos', WORDS, tmp_path, iterations=1, device='cpu')


def test_mistakes_are_one_line(photos, tmp_path):
    folder = photos / 'photos'
    one = tmp_path / 'one'
    one.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(one / 'a.png')
    for arguments, options, said in (
        ((folder, WORDS, tmp_path), dict(minutes=0), 'minutes above 0'),
        ((folder, WORDS, tmp_path), dict(iterations=0), 'one iteration or more'),
        ((folder, WORDS, tmp_path), dict(held_out=1.0), 'share between 0 and 1'),
        ((folder, WORDS, folder / 'out'), {}, 'inside the folder of the photos'),
        ((folder, ' , ', tmp_path), {}, 'empty class name'),
        ((folder, 'dog', tmp_path), {}, 'never learned the words dog'),
        ((one, WORDS, tmp_path), {}, 'holds one photo'),
        ((tmp_path / 'none', WORDS, tmp_path), {}, 'no such photo or folder'),
        ((folder, WORDS, tmp_path), dict(teacher='none.py'), 'none.py does not exist'),
    ):
        with pytest.raises(UserError, match=said):
            distill(*arguments, **(dict(iterations=1, device='cpu') | options))


def test_a_run_that_is_stopped_at_any_file_ends_in_the_same_student(photos, tmp_path, monkeypatch):
    """Ctrl-C while a file takes its place: again and again, each time some files later."""
    replace, written = os.replace, []

    def count(*paths):
        written.append(paths)
        replace(*paths)

    def stop_now_and_then(*paths):
        count(*paths)
        if len(written) % (files // 3) == 0:
            raise KeyboardInterrupt

    command = [photos / 'photos', '--classes', WORDS, '--iterations', 2, '--device', 'cpu']
    command += ['--format', 'coco', '--review', 1]
    monkeypatch.setattr(os, 'replace', count)
    run_distill([str(word) for word in [*command, '--out', tmp_path / 'whole']])
    files = len(written)
    written.clear()
    monkeypatch.setattr(os, 'replace', stop_now_and_then)
    stops, done = 0, False
    while not done:
        try:
            run_distill([str(word) for word in [*command, '--out', tmp_path / 'stopped']])
            done = True
        except KeyboardInterrupt:
            stops += 1
            assert stops < 9
    assert stops >= 2
    whole, stopped = (load_file(tmp_path / x / 'student.safetensors') for x in ('whole', 'stopped'))
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())
    for file in ('labels/scene 0.png', 'report.html', 'student.onnx', 'coco/annotations.json'):
        assert (tmp_path / 'stopped' / file).is_file()
    assert not list((tmp_path / 'stopped').rglob('*.part'))
