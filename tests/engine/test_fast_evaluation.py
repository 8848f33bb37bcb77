"""Order, batches, workers and precision of a test: what they may change, and what not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_tools import result_of, run_test

from mmseg.clip import CLIPDenseExtractor
from mmseg.datasets import SegDataset
from mmseg.engine import SizeSampler
from mmseg.errors import UserError
from mmseg.models import Scoring, engines
from mmseg.models.engines import Engine
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
    inside, trunk = [], CLIPDenseExtractor.trunk

    def watched(tower, *given):
        inside.append((torch.eye(2) @ torch.eye(2)).dtype)
        return trunk(tower, *given)

    monkeypatch.setattr(CLIPDenseExtractor, 'trunk', watched)
    monkeypatch.setattr(engines, 'has_bf16', lambda: True)
    assert run_test(tiny_config, '--precision', 'bf16', '--work-dir', tmp_path / 'half') == 0
    assert inside[-1] == torch.bfloat16  # after the photos that labels are compared on
    assert 'torch bf16 keeps ' in capsys.readouterr().out
    assert run_test(tiny_config, '--work-dir', tmp_path / 'full') == 0
    assert inside[-1] == torch.float32
    half, full = (result_of(tmp_path / name)['metric']['aAcc'] for name in ('half', 'full'))
    assert half == pytest.approx(full, abs=0.02)
    option = ['--cfg-options', 'test_cfg.precision=half']
    assert run_test(tiny_config, '--work-dir', tmp_path / 'none', *option) == 1
    assert (
        "test_cfg.precision must be 'auto', 'fp32', 'tf32', 'bf16', 'fp16' or 'int8', not 'half'"
        in capsys.readouterr().err
    )


def test_precision_of_a_device():
    """'auto' is what an accelerator is fast in."""
    assert Engine('torch', 'auto', 'cpu').precision == 'fp32'
    assert Engine('torch', 'auto', 'cuda:0').precision == 'fp16'
    assert Engine('torch', 'auto', 'cpu').is_default and Engine('torch', 'tf32', 'cuda').is_default
    with pytest.raises(UserError, match='not 5'):
        Engine('torch', 5, 'cpu')


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
