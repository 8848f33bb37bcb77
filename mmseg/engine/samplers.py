"""Choose the order of the data: an endless stream to train on, each photo once to test on."""

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmseg.datasets.base import PhotoDataset
from mmseg.errors import UserError
from mmseg.registry import DATA_SAMPLERS
from mmseg.utils import Seed, Whole


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Yield an endless stream of (index, position), one shuffled epoch after another.

    The index at a position depends on the seed and the position alone. The processes take turns, so
    any number of them reads the same stream, and a resumed run continues without reading what came
    before.

    Args:
        dataset: anything with a length.
        seed: of the shuffling; None takes one that all processes agree on.
        start: the first position, for all processes together.
    """

    def __init__(self, dataset: Sized, seed: Seed | None = None, start: Whole = 0) -> None:
        self.length, self.start = len(dataset), start
        self.rank, self.processes = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch, order = self.start + self.rank, -1, np.empty(0, int)
        while True:
            if position // self.length != epoch:
                epoch = position // self.length
                order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
            yield int(order[position % self.length]), position
            position += self.processes

    def __len__(self) -> int:
        return self.length


@DATA_SAMPLERS.register_module()
class SizeSampler(Sampler):
    """Yield every photo once, photos of one size after each other, so that a batch fits together.

    Sizes are read from the files' headers when the order is first needed. Each process takes one
    contiguous share; no photo is repeated.

    Args:
        seed: passed by mmengine; nothing is random here.
    """

    def __init__(self, dataset: PhotoDataset, seed: Seed | None = None) -> None:
        self.dataset = dataset
        self.rank, self.processes = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        order = sorted(range(len(self.dataset)), key=self._size)  # stable: equal sizes in order
        return iter(order[self._start(self.rank) : self._start(self.rank + 1)])

    def __len__(self) -> int:
        return self._start(self.rank + 1) - self._start(self.rank)

    def _start(self, rank: int) -> int:
        return rank * len(self.dataset) // self.processes

    def _size(self, index: int) -> tuple[int, int]:
        try:
            return self.dataset.size_of(index)
        except UserError:  # the data loader raises it again, with its text
            return (0, 0)
