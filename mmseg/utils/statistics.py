from collections.abc import Sequence

import torch
from torch import Tensor

from .values import require_number


def channel_statistics(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Means and deviations of RGB in 0..1 -> (3, 1, 1) and (3, 1, 1) for values in 0..255.

    Raises:
        UserError: a number out of its range; a deviation of 0 would make NaN of every photo.
    """
    for name, values, least in (('mean', mean, -10), ('std', std, 1e-3)):
        require_number(f'the length of {name}', len(values), 3, 3, whole=True)
        for value in values:
            require_number(f'each of {name}', value, least, 10)
    return torch.tensor(mean).view(3, 1, 1) * 255, torch.tensor(std).view(3, 1, 1) * 255
