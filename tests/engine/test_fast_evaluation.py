"""Order, batches, workers and precision of a test: what they may change, and what not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_tools import result_of, run_test

from mmseg.datasets import SegDataset
from mmseg.engine import SizeSampler, autocast_of
from mmseg.errors import UserError
from mmseg.models import MaskClip, Scoring
from mmseg.models.resize import photo_matrices, row_chunks


def shares(dataset, processes):
    """-> the indices that each process gets"""
    found = []
    for rank in range(processes):
        sampler = SizeSampler(dataset)
        sampler.rank, sampler.processes = rank, processes
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    return found


@pytest.fixture
def dataset(photos):
    """Five photos: 0, 2 and 4 are 60 x 80 (H, W), 1 and 3 are 75 x 50."""
    return SegDataset(
        ['a', 'b', 'c'], str(photos), img_dir='JPEGImages', ann_dir=None, split='ImageSets/val.txt'
    )


def test_photos_of_one_size_come_together(dataset):
    assert shares(dataset, 1) == [[0, 2, 4, 1, 3]]
    assert shares(dataset, 2) == [[0, 2], [4, 1, 3]]
    assert shares(dataset, 7) == [[], [0], [2], [], [4], [1], [3]]


def test_size_is_what_the_photo_will_have(dataset):
    path = dataset.get_data_info(1)['img_path']
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new('RGB', (50, 75)).save(path, exif=exif)
        assert dataset.size_of(1) == np.asarray(dataset.read(path)).shape[:2]


def test_a_bad_photo_is_left_to_its_reader(dataset):
    with open(dataset.get_data_info(3)['img_path'], 'w') as file:
        file.write('no photo')
    assert shares(dataset, 1) == [[3, 0, 2, 4, 1]]


def test_batches_and_workers_change_nothing(tiny_config, tmp_path):
    """One at a time, three at a time (sizes meet in one batch), the list's order; by a worker."""
    found = []
    for i, options in enumerate(
        (
            ['test_dataloader.batch_size=1'],
            ['test_dataloader.batch_size=2', 'test_dataloader.num_workers=1'],
            ['test_dataloader.batch_size=4', 'test_dataloader.sampler.type=DefaultSampler'],
        )
    ):
        folder = tmp_path / str(i)
        arguments = ['--work-dir', folder, '--out', folder / 'labels', '--eval', 'mIoU']
        assert run_test(tiny_config, *arguments, '--cfg-options', *options) == 0
        labels = {p.name: np.asarray(Image.open(p)) for p in (folder / 'labels').iterdir()}
        found.append((result_of(folder)['metric'], labels))
    (metric, labels), *others = found
    assert len(labels) == 5 and len({y for x in labels.values() for y in np.unique(x)}) > 1
    for other, its_labels in others:
        assert other == metric
        for name in labels:
            np.testing.assert_array_equal(its_labels[name], labels[name])


def test_precision_is_chosen(tiny_config, tmp_path, capsys, monkeypatch):
    """In it the network runs, and labels only move a little."""
    inside, window_logits = [], MaskClip.window_logits

    def watched(network, *given):
        inside.append((torch.eye(2) @ torch.eye(2)).dtype)
        return window_logits(network, *given)

    monkeypatch.setattr(MaskClip, 'window_logits', watched)
    assert run_test(tiny_config, '--precision', 'bf16', '--work-dir', tmp_path / 'half') == 0
    assert set(inside) == {torch.bfloat16}
    assert run_test(tiny_config, '--work-dir', tmp_path / 'full') == 0
    assert inside[-1] == torch.float32
    half, full = (result_of(tmp_path / name)['metric']['aAcc'] for name in ('half', 'full'))
    assert half == pytest.approx(full, abs=0.02)
    option = ['--cfg-options', 'test_cfg.precision=half']
    assert run_test(tiny_config, '--work-dir', tmp_path / 'none', *option) == 1
    assert (
        "test_cfg.precision must be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16', not 'half'"
        in capsys.readouterr().err
    )


def test_precision_of_a_device():
    def product():
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    for name, dtype in (('auto', torch.float32), ('bf16', torch.bfloat16)):
        with autocast_of(name, 'cpu'):
            assert product() == dtype
    with pytest.raises(UserError, match='not 5'):
        autocast_of(5, 'cpu')


@pytest.fixture
def resized():
    """(7, 5, 6) scores and the matrices that resize them to 40 x 50"""
    scores = torch.randn(7, 5, 6, generator=torch.manual_seed(0))
    return scores, *photo_matrices(scores, (40, 50), input_size=(80, 96), stride=16)


def test_autocast_does_not_reach_the_labels(resized):
    expected = Scoring().labels(*resized)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(Scoring().labels(*resized), expected)


@pytest.mark.parametrize('rows', [1, 7, 40, 100])
def test_slabs_change_nothing(resized, rows):
    """However many rows at a time: together they are the whole map, each of the size asked for."""
    whole = F.interpolate(resized[0][None], (40, 50), mode='bilinear')[0]
    for expected, given in ((whole, resized), (resized[0], resized[:1])):  # resized, and as it is
        parts = list(row_chunks(*given, rows=rows))
        assert max(map(len, parts)) == min(rows, expected.shape[1])
        found = torch.cat(parts).transpose(0, 1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
