"""Position embeddings on grids that they were not trained on."""

import torch
import torch.nn.functional as F

RULES = ('size', 'factor', 'antialias')


def resize_positions(positions, grid, rule='size', *, prefix=1):
    """(prefix + g*g, D), (h, w) -> (prefix + h*w, D): bicubic over the grid, other rows untouched.

    Args:
        rule: 'size' resamples to exactly the grid; 'factor' by (n + 0.1) / g, which shifts the
            samples a little (DINO's guard against rounding, which most published code inherits);
            'antialias' as 'size' with PIL's kernel (GEM, timm).
    """
    size = round((positions.shape[0] - prefix) ** 0.5)
    if not torch.compiler.is_exporting() and grid == (size, size):  # exported: any size
        return positions
    square = positions[prefix:].T.reshape(1, -1, size, size).float()
    options = dict(mode='bicubic', align_corners=False)
    if rule == 'factor':
        factor = tuple((n + 0.1) / size for n in grid)
        square = F.interpolate(square, scale_factor=factor, **options)
    else:
        square = F.interpolate(square, size=grid, antialias=rule == 'antialias', **options)
    return torch.cat([positions[:prefix], square.flatten(2)[0].T.to(positions.dtype)], dim=0)
