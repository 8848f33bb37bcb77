"""A tar that is being labelled and is cut off anywhere: done again, whole, once."""

import io
import tarfile

import pytest
from PIL import Image

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
    (tmp_path / 'out' / '.in.part.tar').write_bytes(b'what a kill leaves behind')
    assert label_unit(shard, Labels())['photos'] == NUMBER
    assert names(shard.target) == [f'{i:02d}.png' for i in range(NUMBER)]
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['in.tar']
    assert shard.missing() == () and label_unit(shard, Labels())['photos'] == 0
