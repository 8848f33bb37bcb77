from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmseg.errors import UserError
from mmseg.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SizeSampler(Sampler):
    """Every photo once, photos of one size beside each other, so that they share a batch's pass.

    Sizes are read from the files' headers when the order is first asked for. The processes take
    their shares one after the other; none repeats a photo.

    Args:
        dataset: a PhotoDataset.
        seed: of mmengine's call; nothing is drawn.
    """

    def __init__(self, dataset, seed=None):
        self.dataset = dataset
        self.rank, self.processes = get_dist_info()

    def __iter__(self):
        order = sorted(range(len(self.dataset)), key=self._size)  # stable: equal sizes in order
        start, stop = self._share(self.rank), self._share(self.rank + 1)
        return iter(order[start:stop])

    def __len__(self):
        return self._share(self.rank + 1) - self._share(self.rank)

    def _share(self, rank):
        return rank * len(self.dataset) // self.processes

    def _size(self, index):
        try:
            return self.dataset.size_of(index)
        except UserError:  # whoever loads it tells
            return (0, 0)
