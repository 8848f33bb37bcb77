"""Kills, cuts and collisions: labels of a tar or a photo are whole, or missing and done again."""

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from mmseg.errors import UserError
from mmseg.labelling.files import remove_parts, whole_file
from mmseg.labelling.units import TarUnit, label_unit

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
    assert shard.missing() == (shard,) and not (tmp_path / 'out' / 'in.tar').exists()
    assert label_unit(shard, Labels())['photos'] == NUMBER
    assert names(shard.target) == [f'{i:02d}.png' for i in range(NUMBER)]
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['in.tar']
    assert shard.missing() == () and label_unit(shard, Labels())['photos'] == 0


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
    assert shard.missing() == (shard,) and not list(Path(shard.target).parent.iterdir())


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


def part_of(path):
    """-> where another process, on another machine, has written a part of this file"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, 'unlink', lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
            temporary.write_bytes(b'what a kill leaves behind')
            raise KeyboardInterrupt
    return temporary


def test_what_kills_left_is_removed_of_these_files_alone(tmp_path):
    (tmp_path / 'sub').mkdir()
    files = [tmp_path / 'a.png', tmp_path / 'a.conf.png', tmp_path / 'sub' / 'x.v1.tar']
    parts = [part_of(path) for path in files]
    parts.append(tmp_path / '.a.part.png')
    others = [part_of(tmp_path / 'b.png'), tmp_path / '.a.png', tmp_path / '.part.png']
    for path in [*parts, *others, *files]:
        path.write_bytes(b'x')
    remove_parts([*files, tmp_path / 'nowhere' / 'c.png'])
    assert not any(path.exists() for path in parts)
    assert all(path.exists() for path in [*others, *files])


def test_two_processes_that_write_one_file_leave_it_whole(tmp_path):
    path = tmp_path / 'a.png'
    with whole_file(path) as slow:
        slow.write_bytes(b'half')
        with whole_file(path) as fast:
            fast.write_bytes(b'whole')
        assert path.read_bytes() == b'whole'
        remove_parts([path])  # by the one that is through
        assert not slow.exists()
    assert path.read_bytes() == b'whole' and list(tmp_path.iterdir()) == [path]


def test_a_file_that_vanished_and_was_not_written_is_an_error(tmp_path):
    with (
        pytest.raises(UserError, match='cannot write'),
        whole_file(tmp_path / 'a.png') as temporary,
    ):
        assert not temporary.exists()
