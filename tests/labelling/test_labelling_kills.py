"""Kills, cuts and collisions: labels of a tar or a photo are whole, or missing and done again."""

import gzip
import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from mmseg.errors import UserError
from mmseg.labelling.command import report
from mmseg.labelling.record import RECORD
from mmseg.labelling.units import BLOCK, PhotoUnit, TarUnit, content_of, label_unit, missing
from mmseg.utils import atomic_path, sweep_parts
from mmseg.utils.files import MACHINE

NUMBER = 12


class Labels:
    """A labeller that stops as a killed process would behind `last` photos."""

    def __init__(self, last=None):
        self.last = last

    def stream(self, photos):
        for i, (key, photo) in enumerate(photos):
            if i == self.last:
                raise KeyboardInterrupt
            image = photo.convert('L')
            image.labels, image.confidence = image, None
            yield key, image


@pytest.fixture
def shard(tmp_path):
    with tarfile.open(tmp_path / 'in.tar', 'w') as tar:
        for i in range(NUMBER):
            file = io.BytesIO()
            Image.new('RGB', (8, 8), (i, i, i)).save(file, 'png')
            member = tarfile.TarInfo(f'{i:02d}.png')
            member.size = file.tell()
            file.seek(0)
            tar.addfile(member, file)
    return TarUnit(str(tmp_path / 'in.tar'), str(tmp_path / 'out' / 'in.tar'))


def names(path):
    with tarfile.open(path) as tar:
        return tar.getnames()


@pytest.mark.parametrize('last', [0, 5, NUMBER - 1])
def test_a_shard_cut_off_is_labelled_whole(shard, tmp_path, last):
    with pytest.raises(KeyboardInterrupt):
        label_unit(shard, Labels(last))
    assert missing(shard) == (shard,) and not (tmp_path / 'out' / 'in.tar').exists()
    assert label_unit(shard, Labels())['photos'] == NUMBER
    assert names(shard.target) == [f'{i:02d}.png' for i in range(NUMBER)]
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['in.tar']
    assert missing(shard) == () and label_unit(shard, Labels())['photos'] == 0


def test_a_shard_that_has_changed_is_labelled_again(shard):
    label_unit(shard, Labels())
    data = bytearray(Path(shard.source).read_bytes())
    Path(shard.source).write_bytes(data)  # at another time
    assert missing(shard) == ()
    data[-1] = 1  # behind the end marker
    Path(shard.source).write_bytes(data)
    assert missing(shard) == (shard,) and label_unit(shard, Labels())['photos'] == NUMBER
    assert missing(shard) == ()


@pytest.mark.parametrize('size', [0, 5, BLOCK, 3 * BLOCK, 100 * BLOCK + 7])
def test_content_is_size_and_samples_of_the_bytes(tmp_path, size):
    path = tmp_path / 'a'
    found = set()
    for place in (None, 0, size // 2, size - 1):
        data = bytearray(size)
        if place is not None and size:
            data[place] = 1
        path.write_bytes(data)
        found.add(content_of(path))
    assert len(found) == (1 if size == 0 else 4) and all(c.startswith(f'{size}-') for c in found)
    assert content_of(tmp_path / 'scene of no file') == str(tmp_path / 'scene of no file')


def cut(path, kind, size):
    """A plain tar -> the same, compressed or not, of its first `size` bytes."""
    data = path.read_bytes()[:size]
    path.write_bytes({'tar': bytes, 'gz': gzip.compress, 'xz': lzma.compress}[kind](data))


@pytest.mark.parametrize('kind', ['tar', 'gz', 'xz'])
@pytest.mark.parametrize('behind', [0, 300, 512 + 20])
def test_a_shard_that_was_cut_anywhere_is_refused(shard, kind, behind):
    with tarfile.open(shard.source) as tar:
        place = tar.getmembers()[7].offset + behind
    cut(Path(shard.source), kind, place)
    assert label_unit(shard, Labels())['shards'] == [shard.source]
    assert missing(shard) == (shard,) and not list(Path(shard.target).parent.iterdir())


@pytest.mark.parametrize('kind', ['tar', 'gz', 'xz'])
def test_the_end_marker_may_be_missing_no_byte(shard, kind):
    with tarfile.open(shard.source) as tar:
        end = tar.getmembers()[-1]
    end = end.offset_data + 512 * -(-end.size // 512)
    whole = Path(shard.source).read_bytes()
    for size, photos in ((end, 0), (end + 511, 0), (end + 512, NUMBER)):
        Path(shard.source).write_bytes(whole)
        cut(Path(shard.source), kind, size)
        assert label_unit(shard, Labels())['photos'] == photos


def test_a_broken_header_is_not_the_end(shard):
    data = bytearray(Path(shard.source).read_bytes())
    with tarfile.open(shard.source) as tar:
        data[tar.getmembers()[7].offset] ^= 1  # its checksum is another's
    Path(shard.source).write_bytes(data)
    assert label_unit(shard, Labels())['shards'] == [shard.source]


def part_of(path, process):
    """What a process of this machine has written of a file -> its temporary path"""
    part = path.with_name(f'.{path.stem}.{MACHINE}{process:06x}01234567.part{path.suffix}')
    part.write_bytes(b'half')
    return part


def test_a_run_sweeps_what_killed_ones_left_and_keeps_what_others_write(tmp_path):
    ended = subprocess.Popen(['true'])
    ended.wait()
    (tmp_path / 'sub').mkdir()
    labels = [tmp_path / 'sub' / 'a.png', tmp_path / 'nowhere' / 'c.png']
    unit = PhotoUnit([('photo', str(path)) for path in labels])
    files = (tmp_path / RECORD, labels[0])
    left, written = ([part_of(path, of) for path in files] for of in (ended.pid, os.getpid()))
    assert report([], [unit], [unit], tmp_path, quiet=True) == ''
    assert not any(path.exists() for path in left) and all(path.exists() for path in written)


def test_two_processes_that_write_one_file_leave_it_whole(tmp_path):
    path = tmp_path / 'a.png'
    with atomic_path(path) as slow:
        slow.write_bytes(b'half')
        with atomic_path(path) as fast:
            fast.write_bytes(b'whole')
        assert path.read_bytes() == b'whole'
        sweep_parts(tmp_path)  # by the one that is through
        slow.write_bytes(b'also whole')
    assert path.read_bytes() == b'also whole' and list(tmp_path.iterdir()) == [path]


def test_a_file_that_vanished_and_was_not_written_is_an_error(tmp_path):
    with pytest.raises(UserError, match='a.png'), atomic_path(tmp_path / 'a.png') as temporary:
        assert not temporary.exists()
