"""Labels of many photos: units, processes, kills, tars and Ray, on the miniature."""

import io
import itertools
import json
import subprocess
import tarfile
import time

import numpy as np
import pytest
from conftest import ROOT, group_environment, run_script
from forked import run_group, start_script
from PIL import Image

from mmseg.apis import init_model, segment
from mmseg.datasets.miniature import MiniatureDataset
from mmseg.datasets.reading import read_photo
from mmseg.labelling.ray_engine import run_units
from mmseg.labelling.share import share_of
from mmseg.labelling.units import (
    find_units,
    in_order,
    missing,
    missing_first,
    photo_units,
    photos_at_hand,
)
from mmseg.models import engines
from mmseg.utils.files import MACHINE

CONFIG = ROOT / 'configs' / 'miniature' / 'maskclip_rn.py'
NUMBER = 70  # more than one unit


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Photos of two sizes, some in a subfolder, under one root with a tar of the first six."""
    root = tmp_path_factory.mktemp('labelling')
    dataset = MiniatureDataset(scenes=NUMBER, world=3)
    (root / 'photos' / 'sub').mkdir(parents=True)
    for i in range(NUMBER):
        image = Image.fromarray(dataset.draw(f'miniature/3/{i:05d}.png').image)
        image = image if i % 3 else image.resize((96, 64))
        image.save(root / 'photos' / ('sub' if i % 2 else '') / f'{i:03d}.png')
    with tarfile.open(root / 'x.tar', 'w') as tar:
        for i in range(6):
            path = root / 'photos' / ('sub' if i % 2 else '') / f'{i:03d}.png'
            tar.add(path, arcname=f'a/{i:03d}.png')
            member = tarfile.TarInfo(f'a/{i:03d}.json')
            member.size = 2
            tar.addfile(member, io.BytesIO(b'{}'))
    return root


@pytest.fixture(scope='module')
def labels(folder):
    assert run_script('pseudo_label', CONFIG, folder / 'photos', '--out', folder / 'labels') == 0
    return read(folder / 'labels')


def read(root):
    """-> {path below the folder: bytes} of all but the record and the text"""
    own = ('labels.json', 'text.safetensors')
    files = (path for path in root.rglob('*') if path.is_file() and path.name not in own)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_labels_are_those_of_segment(folder, labels):
    model = init_model(CONFIG, device='cpu')
    assert len(labels) == NUMBER
    for name in ('000.png', 'sub/001.png', 'sub/003.png'):
        expected = segment(model, folder / 'photos' / name)
        found = Image.open(io.BytesIO(labels[name]))
        assert np.array_equal(np.asarray(found), expected.labels)
    record = json.loads((folder / 'labels' / 'labels.json').read_text())
    assert record['classes'] == list(model.vocabulary.labels)


def test_parts_are_the_whole(folder, labels, tmp_path):
    for part in ('1/2', '2/2'):
        options = ['--out', tmp_path, '--part', part, '--batch', 3]
        assert run_script('pseudo_label', CONFIG, folder / 'photos', *options) == 0
    assert read(tmp_path) == labels


def test_processes_are_the_whole(folder, labels, tmp_path):
    arguments = [folder / 'photos', '--out', tmp_path / 'labels']
    codes, printed = run_group('pseudo_label.py', CONFIG, *arguments, out=tmp_path / 'printed')
    assert codes == [0, 0], printed
    assert read(tmp_path / 'labels') == labels


def test_a_part_is_shared_out_among_processes(monkeypatch):
    found = []
    for part, rank in itertools.product(('1/2', '2/2'), '012'):
        monkeypatch.setenv('RANK', rank)
        monkeypatch.setenv('WORLD_SIZE', '3')
        found.append(share_of(part, 'pytorch'))
    assert found == [(i, 6) for i in range(6)]
    assert share_of('2/8', 'none') == (1, 8) and share_of('', 'pytorch') == (2, 3)


def test_a_killed_run_goes_on(folder, labels, tmp_path):
    command = ['pseudo_label.py', CONFIG, folder / 'photos', '--out', tmp_path]
    process = start_script(*command, '--device', 'cpu', '--batch', 1)
    while len(list(tmp_path.glob('*.png'))) < 8:
        assert process.is_alive(), 'it ended before it could be killed'
        time.sleep(0.002)
    process.kill()
    process.join()
    cut = next(path for path in tmp_path.glob('*.png') if not path.name.startswith('.'))
    token = f'{MACHINE}{process.pid:06x}{"0" * 8}'
    part = tmp_path / f'.{cut.stem}.{token}.part.png'
    cut.rename(part).write_bytes(b'cut off')  # killed within a write
    for name in (f'{cut.stem}.conf.{token}.part.png', f'labels.{token}.part.json'):
        (tmp_path / f'.{name}').write_bytes(b'cut off')
    whole = [name for name in read(tmp_path) if '/.' not in f'/{name}']
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in whole}
    assert 0 < len(before) < NUMBER
    assert run_script('pseudo_label', *command[1:]) == 0
    assert read(tmp_path) == labels
    for name, written in before.items():
        assert (tmp_path / name).stat().st_mtime_ns == written, 'done twice'


def test_tars(folder, labels, tmp_path):
    assert run_script('pseudo_label', CONFIG, folder / 'x.tar', '--out', tmp_path) == 0
    with tarfile.open(tmp_path / 'x.tar') as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert sorted(found) == [f'a/{i:03d}.png' for i in range(6)]
    for i in range(6):
        pair = found[f'a/{i:03d}.png'], labels[f'{"sub/" if i % 2 else ""}{i:03d}.png']
        assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(data))) for data in pair))
    (folder / 'list.txt').write_text(f'{folder}/x.tar\n')
    assert missing(find_units(folder / 'list.txt', tmp_path)[0]) == ()


@pytest.mark.parametrize('cut', [100, 30_000])
def test_a_broken_tar_leaves_nothing(folder, tmp_path, capsys, cut):
    (tmp_path / 'broken.tar').write_bytes((folder / 'x.tar').read_bytes()[:cut])
    code = run_script('pseudo_label', CONFIG, tmp_path / 'broken.tar', '--out', tmp_path / 'out')
    assert code == 1 and 'broken.tar cannot be read' in capsys.readouterr().err
    assert read(tmp_path / 'out') == {}


def two_shards(folder, tmp_path):
    """-> a list of a damaged shard and a whole one"""
    (tmp_path / 'a_broken.tar').write_bytes((folder / 'x.tar').read_bytes()[:30_000])
    (tmp_path / 'list.txt').write_text(f'{tmp_path}/a_broken.tar\n{folder}/x.tar\n')
    return tmp_path / 'list.txt'


def test_a_broken_tar_does_not_stop_those_behind_it(folder, tmp_path, capsys):
    shards = two_shards(folder, tmp_path)
    assert run_script('pseudo_label', CONFIG, shards, '--out', tmp_path / 'out') == 1
    told = capsys.readouterr()
    assert '6 photos labelled; 1 of 2 units are whole' in told.out
    assert f'skipped: the shard {tmp_path}/a_broken.tar cannot be read' in told.err
    assert f'1 shards ({tmp_path}/a_broken.tar) could not be read' in told.err.splitlines()[-1]
    assert list(read(tmp_path / 'out')) == ['x.tar']


def test_a_process_with_a_broken_tar_does_not_stop_the_other(folder, tmp_path):
    command = ['bash', ROOT / 'tools' / 'dist_pseudo_label.sh', CONFIG, 2]
    command += [two_shards(folder, tmp_path), '--out', tmp_path / 'out', '--device', 'cpu']
    options = dict(env=group_environment(), capture_output=True, text=True, timeout=300)
    done = subprocess.run([*map(str, command)], **options)
    assert done.returncode == 1 and 'a_broken.tar) could not be read' in done.stderr
    assert list(read(tmp_path / 'out')) == ['x.tar']


def test_ray(folder, labels, tmp_path):
    pytest.importorskip('ray', reason="needs Ray: pip install -e '.[ray]'")
    arguments = [CONFIG, folder / 'photos', '--out', tmp_path / 'labels', '--device', 'cpu']
    arguments += ['--scheduler', 'ray', '--workers', 2]
    variables, printed = dict(RAY_USAGE_STATS_ENABLED='0', RAY_NUM_CPUS='2'), tmp_path / 'printed'
    process = start_script('pseudo_label.py', *arguments, out=printed, **variables)
    process.join(timeout=300)
    assert process.exitcode == 0, printed.read_text()
    assert f'{NUMBER} photos labelled' in printed.read_text()
    assert read(tmp_path / 'labels') == labels


def test_ray_with_nothing_to_do():
    assert list(run_units([], dict(device='cpu'), workers=2)) == []


def test_a_bad_photo_is_named_and_the_others_are_labelled(folder, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    for name in ('000.png', '002.png'):
        (tmp_path / 'in' / name).write_bytes((folder / 'photos' / name).read_bytes())
    (tmp_path / 'in' / 'bad.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b'0' * 40)
    options = [tmp_path / 'in', '--out', tmp_path / 'out', '--classes', 'sky, moon']
    assert run_script('pseudo_label', CONFIG, *options) == 1
    error = capsys.readouterr().err
    assert f'skipped: the image {tmp_path / "in" / "bad.png"}' in error
    assert error.strip().endswith('1 photos could not be read; see above')
    assert sorted(read(tmp_path / 'out')) == ['000.png', '002.png']
    assert run_script('pseudo_label', CONFIG, *options[:-1], 'sky, sand') == 1
    assert 'holds labels of other classes' in capsys.readouterr().err


def test_tars_without_labels_come_first(folder, tmp_path):
    names = [tmp_path / f'{name}.tar' for name in 'abc']
    for name in names:
        name.symlink_to(folder / 'x.tar')
    (tmp_path / 'list.txt').write_text('\n'.join(map(str, names)))
    units = find_units(tmp_path / 'list.txt', tmp_path / 'out')
    assert len(units) == 3 and units[1] == (str(names[1]), f'{tmp_path}/out/b.tar')
    assert list(units[::2]) == [units[0], units[2]]
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'a.tar').touch()
    assert list(missing_first(units)) == [units[1], units[2], units[0]]
    assert missing_first(list(units)) == [units[1], units[2], units[0]]


def test_photos_at_hand(folder, tmp_path):
    """Of folders their paths, of tars images, of scenes what the data set draws."""
    units = find_units(folder / 'photos', tmp_path)
    paths = [photo for unit in units for photo, _ in unit.pairs]
    found = photos_at_hand(units, read_photo, count=4)
    assert [paths.index(path) for path in found] == [0, 32, 64, 67]  # units of 64 and of 6
    (tmp_path / 'broken.tar').write_bytes(b'junk')
    images = photos_at_hand(find_units(folder / 'x.tar', tmp_path), read_photo, count=4)
    assert [image.size for image in images] == [(96, 64), (64, 64), (64, 64), (96, 64)]
    assert photos_at_hand(find_units(tmp_path / 'broken.tar', tmp_path), read_photo) == []
    scenes = photo_units([('miniature/3/00001.png', 'a.png'), ('miniature/3/00002.png', 'b.png')])
    dataset = MiniatureDataset(scenes=9, world=3)
    assert [image.size for image in photos_at_hand(scenes, dataset.read)] == [(64, 64)] * 2
    assert photos_at_hand(scenes, read_photo) == []


def test_labels_of_another_precision_are_not_mixed(folder, labels, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engines, 'has_bf16', lambda: True)
    command = [CONFIG, folder / 'x.tar', '--out', tmp_path]
    assert run_script('pseudo_label', *command, '--precision', 'bf16') == 0
    assert 'torch bf16 keeps 9' in capsys.readouterr().out
    assert json.loads((tmp_path / 'labels.json').read_text())['precision'] == 'bf16'
    assert run_script('pseudo_label', *command) == 1
    assert 'holds labels of other precision' in capsys.readouterr().err


def test_less_probable_pixels_are_of_no_class(folder, tmp_path):
    one = folder / 'photos' / '000.png'
    options = ['--out', tmp_path, '--threshold', 0.9]
    assert run_script('pseudo_label', CONFIG, one, *options) == 0
    expected = segment(init_model(CONFIG, device='cpu'), one, threshold=0.9).labels
    assert (expected == 255).any()
    assert np.array_equal(np.asarray(Image.open(tmp_path / '000.png')), expected)


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['PHOTOS', '--part', '3/2'], '--part is like 2/8'),
        (['PHOTOS', '--batch', '0'], '--batch and --workers are numbers from 1 on'),
        (['PHOTOS', '--threshold', '2'], 'is a probability in 0..1'),
        (['nowhere'], 'no such photo or folder'),
        (['nowhere/*.tar'], 'no such tar: '),
        (['PHOTOS', '--launcher', 'slurm'], '--launcher slurm needs SLURM_PROCID'),
    ],
)
def test_bad_arguments(folder, tmp_path, capsys, arguments, words):
    arguments = [folder / 'photos' if a == 'PHOTOS' else a for a in arguments]
    assert run_script('pseudo_label', CONFIG, *arguments, '--out', tmp_path / 'out') == 1
    assert words in capsys.readouterr().err


def test_two_photos_of_one_name(folder, tmp_path, capsys):
    for suffix in ('png', 'jpg'):
        Image.new('RGB', (8, 8)).save(tmp_path / f'a.{suffix}')
    assert run_script('pseudo_label', CONFIG, tmp_path, '--out', tmp_path / 'out') == 1
    assert 'rename one' in capsys.readouterr().err


def test_in_order_draws_no_more_than_it_may():
    drawn = []

    def items():
        for i in range(20):
            drawn.append(i)
            yield i

    stream = in_order(lambda x: x * x, items(), threads=3, ahead=4)
    assert next(stream) == 0 and len(drawn) == 4
    assert list(stream) == [i * i for i in range(1, 20)]
