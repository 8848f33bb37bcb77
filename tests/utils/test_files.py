"""What reads and writes files: photo formats alone, names below their root, whole files or none."""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import tarfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from safetensors.numpy import save_file

from mmseg.datasets import SegDataset
from mmseg.datasets.reading import photo_size, read_gray, read_mask, read_photo
from mmseg.errors import UserError
from mmseg.labelling.shards import DamagedShard, photos_of
from mmseg.preparation.archives import unpack
from mmseg.preparation.masks import in_parallel, read_labels
from mmseg.utils import atomic_path, files, output_dir, path_below
from mmseg.utils.json_stream import json_elements


@pytest.mark.parametrize('kind', ['EPS', 'PDF', 'PCX', 'TGA'])
def test_only_photo_formats_are_opened(kind, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *_, **__: started.append('gs'))
    path = tmp_path / 'photo.jpg'
    Image.new('RGB', (8, 6)).save(path, kind)
    labels = dict(num_classes=3, reduce_zero_label=False)
    for read in (
        read_photo,
        photo_size,
        read_labels,
        lambda path: read_gray(path, (6, 8)),
        lambda path: read_mask(path, (6, 8), **labels),
    ):
        with pytest.raises(UserError, match='photo.jpg cannot be read: no image of JPEG, PNG'):
            read(path)
    assert started == []


@pytest.mark.parametrize('kind', ['JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'])
def test_photo_formats_are_opened_whatever_the_suffix(kind, tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / 'photo.jpg', kind)
    assert read_photo(tmp_path / 'photo.jpg').size == (8, 6)


@pytest.mark.filterwarnings('ignore')
def test_damaged_images_are_the_users(tmp_path):
    """Pillow raises SyntaxError, struct.error, KeyError and more; none may come through."""
    path, rng, wrong = tmp_path / 'a.png', np.random.default_rng(0), []
    for kind in ('PNG', 'TIFF', 'GIF', 'BMP', 'WEBP', 'JPEG'):
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(path, kind)
        whole = path.read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data[: rng.integers(1, 2 * len(data))])
            with contextlib.suppress(UserError):
                wrong.append(read_photo(path).mode)
    assert set(wrong) == {'RGB'}


OUTSIDE = ['../x', '/x', 'a/../../x', '', '.', 'a\0b', 7, None]


@pytest.mark.parametrize('name', OUTSIDE)
def test_names_that_leave_their_root_are_refused(name):
    with pytest.raises(UserError, match='list.txt names .* which is no path below out'):
        path_below('out', name, 'list.txt')


def test_names_below_their_root():
    assert path_below('out', 'a/b..c.png', 'list.txt') == Path('out/a/b..c.png')


@pytest.mark.parametrize('name', ['../../away', '{tmp}/away'])
def test_a_split_list_does_not_leave_its_folder(name, photos, tmp_path):
    name = name.format(tmp=tmp_path)
    Image.new('RGB', (8, 6)).save(tmp_path / 'away.jpg')
    (photos / 'ImageSets' / 'val.txt').write_text(f'p0\n{name}\n')
    with pytest.raises(UserError, match=r'val.txt names .*away.jpg.* which is no path below'):
        SegDataset(
            ['cat'], str(photos), img_dir='JPEGImages', ann_dir=None, split='ImageSets/val.txt'
        ).full_init()


def test_members_of_a_tar_do_not_leave_it(tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.png')
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        tar.add(tmp_path / 'a.png', 'in/../../b.png')
    with pytest.raises(DamagedShard, match='a.tar names .in/../../b.png., which is no path'):
        list(photos_of(tmp_path / 'a.tar'))
    with pytest.raises(UserError, match='a.tar names .in/../../b.png., which is no path'):
        unpack(tmp_path / 'a.tar', tmp_path / 'root', ['in/'])
    assert not (tmp_path / 'b.png').exists()


def test_the_photos_of_a_folder_that_was_packed_from_inside(tmp_path):
    """Its first member is '.', as of `tar cf a.tar -C folder .`."""
    (tmp_path / 'folder').mkdir()
    Image.new('RGB', (8, 6)).save(tmp_path / 'folder' / 'a.png')
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        tar.add(tmp_path / 'folder', '.')
    assert [(key, name) for key, name, _ in photos_of(tmp_path / 'a.tar')] == [('a', './a.png')]


def test_others_may_read_what_safetensors_wrote(tmp_path):
    """As every new file of this process: labels in a shared folder need their text beside them."""
    (tmp_path / 'new').touch()
    with atomic_path(tmp_path / 'a.safetensors') as temporary:
        save_file({'a': np.ones(1)}, temporary)
    assert (tmp_path / 'a.safetensors').stat().st_mode == (tmp_path / 'new').stat().st_mode


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / 'folder' / 'a.txt'
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text('half')
        _ = 1 / 0
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_text('whole')
    assert [p.name for p in path.parent.iterdir()] == ['a.txt'] and path.read_text() == 'whole'


@pytest.mark.parametrize('name', ['x' * 255, 'x' * 255 + '.png', 'folder', 'file/a.txt'])
def test_what_cannot_be_written_is_one_line(name, tmp_path):
    (tmp_path / 'folder' / 'in').mkdir(parents=True)
    (tmp_path / 'file').touch()
    if name == 'x' * 255:  # as long as a name may be
        with atomic_path(tmp_path / name) as temporary:
            temporary.touch()
        return
    with (
        pytest.raises(UserError, match='cannot write .*: [^\n]+'),
        atomic_path(tmp_path / name) as t,
    ):
        t.touch()


def test_a_full_disk_is_one_line(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match='cannot write .*a.txt: File too large'):
            with atomic_path(tmp_path / 'a.txt') as temporary:
                temporary.write_text('x' * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def in_another_process(function, *arguments):
    """Start a process -> it, once it has said through a pipe that it works"""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(theirs, *arguments))
    process.start()
    assert ours.poll(20)
    return process


def write_for_ever(pipe, path):
    with atomic_path(path) as temporary:
        if not path.suffix:  # a folder
            temporary.mkdir()
        (temporary if path.suffix else temporary / 'in').write_text('half')
        pipe.send('started')
        time.sleep(60)


def test_the_next_run_sweeps_what_killed_ones_left(tmp_path):
    for name in ('a.txt', 'b'):
        killed = in_another_process(write_for_ever, tmp_path / name)
        os.kill(killed.pid, signal.SIGKILL)
        killed.join()
    running = in_another_process(write_for_ever, tmp_path / 'c.txt')
    old = tmp_path / f'.d.{"0" * 22}.part.txt'  # another machine's
    new = tmp_path / f'.e.{"0" * 22}.part.txt'
    others = [tmp_path / 'f.part.txt', tmp_path / '.g.0123456789ab.part', new]
    for path in (old, *others):
        path.touch()
    os.utime(old, (0, 0))
    assert len(list(tmp_path.iterdir())) == 7
    output_dir(tmp_path)
    left = set(tmp_path.iterdir()) - set(others)
    os.kill(running.pid, signal.SIGKILL)
    running.join()
    assert [path.name[:3] for path in left] == ['.c.']


def test_machines_of_one_name_are_told_apart_by_their_boots(monkeypatch):
    """A host's first pid namespace has one number everywhere."""
    assert files._machine() == files.MACHINE
    monkeypatch.setattr(Path, 'read_text', lambda path: f'another boot, said by {path}')
    assert files._machine() != files.MACHINE


def work_for_ever(folder):
    for _ in in_parallel(note_and_sleep, [folder] * 8, 8, 'work', processes=2):
        pass


def note_and_sleep(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(20)


def test_workers_end_with_their_parent(tmp_path):
    parent = multiprocessing.get_context('fork').Process(target=work_for_ever, args=(tmp_path,))
    parent.start()
    assert within(10, lambda: any(tmp_path.iterdir()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    worker = int(next(tmp_path.iterdir()).name)
    assert within(5, lambda: not Path(f'/proc/{worker}').exists())


def within(seconds, happens):
    """Whether something happens in time."""
    ends = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def test_json_is_read_element_by_element(tmp_path):
    content = dict(
        info=dict(a=[1]), rows=[1, -2.5e3, 'x"]', None, [], {'a': [1]}], empty=[], more=['\u00e9']
    )
    for indent in (None, 1):
        (tmp_path / 'a.json').write_text(json.dumps(content, indent=indent))
        found = list(json_elements(tmp_path / 'a.json'))
        expected = [('rows', row) for row in content['rows']] + [('more', '\u00e9')]
        assert found == expected


def test_json_elements_across_chunks_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg.utils.json_stream.CHUNK', 7)
    rows = [123456, 'a' * 50, dict(b=[1.25] * 9)] * 9
    (tmp_path / 'a.json').write_text(json.dumps(dict(rows=rows)))
    assert [row for _, row in json_elements(tmp_path / 'a.json')] == rows
    monkeypatch.undo()
    (tmp_path / 'b.json').write_text(json.dumps(dict(rows=['x' * 1000] * 20_000)))  # 20 MB
    tracemalloc.start()
    assert sum(1 for _ in json_elements(tmp_path / 'b.json')) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize(
    'text',
    [
        '', '[]', '{', '{"a": [', '{"a": [1', '{"a": [1 2]}', '{"a" [1]}', '{"a": [1]]', '{"a": }',
        '{"a": [' + '9' * 100_000 + ']}', '{"a": ' + '[' * 100_000, '{"a": [nul]}',
    ],
)  # fmt: skip
def test_json_that_is_none(text, tmp_path):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises((ValueError, RecursionError)):
        list(json_elements(tmp_path / 'a.json'))
