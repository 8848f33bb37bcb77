import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmseg.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """An endless stream of (photo's index, place in the stream), epoch after shuffled epoch.

    What comes at a place depends on the seed and the place alone: the processes take turns, so any
    number of them sees the same stream, and a resumed run starts at its place without reading what
    came before.

    Args:
        dataset: anything with a length.
        seed: of the shuffling; None takes one that all processes agree on.
        start: the first place, for all processes together.
    """

    def __init__(self, dataset, seed=None, start=0):
        self.length, self.start = len(dataset), start
        self.rank, self.processes = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed

    def __iter__(self):
        place, epoch, order = self.start + self.rank, -1, None
        while True:
            if place // self.length != epoch:
                epoch = place // self.length
                order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
            yield int(order[place % self.length]), place
            place += self.processes

    def __len__(self):
        return self.length
