"""What all vision transformers share: the tokens before the last block, positions, the grid."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PositionRule = Literal['size', 'factor', 'antialias']


class Trunk(NamedTuple):
    """The tokens of a ViT before its last block.

    Attributes:
        tokens: (N, prefix + h*w, width), the class token and registers first.
        grid: (h, w).
        block_outputs: {number from 1: (N, prefix + h*w, width)} of the blocks that the readout
            needs. Number 0 is the input of the first block.
        early_attention: (N, heads, prefix + h*w, prefix + h*w) mean attention of the blocks that
            the readout needs, or None.
        prefix: number of tokens before the patches: 1 with a class token alone.
        rope: (h*w, 2 * d) rotary positions that the blocks apply to queries and keys, or None.
    """

    tokens: Tensor
    grid: tuple[int, int]
    block_outputs: dict[int, Tensor] = {}
    early_attention: Tensor | None = None
    prefix: int = 1
    rope: Tensor | None = None

    @property
    def patches(self) -> Tensor:
        """(N, h*w, width)"""
        return self.tokens[:, self.prefix :]


def resize_positions(
    positions: Tensor, grid: tuple[int, int], rule: PositionRule = 'size', *, prefix: int = 1
) -> Tensor:
    """Resample position embeddings to another grid, bicubically; prefix rows are kept.

    (prefix + g*g, D), (h, w) -> (prefix + h*w, D)

    Args:
        rule: 'size' resamples to exactly the grid. 'factor' scales by (n + 0.1) / g, which shifts
            the samples a little (DINO's guard against rounding, inherited by most published code).
            'antialias' is 'size' with PIL's kernel (GEM, timm).
    """
    size = round((positions.shape[0] - prefix) ** 0.5)
    if not torch.compiler.is_exporting() and grid == (size, size):  # exported: any size
        return positions
    square = positions[prefix:].T.reshape(1, -1, size, size).float()
    if rule == 'factor':
        factor = tuple((n + 0.1) / size for n in grid)
        square = F.interpolate(square, scale_factor=factor, mode='bicubic', align_corners=False)
    else:
        antialias = rule == 'antialias'
        square = F.interpolate(
            square, grid, mode='bicubic', align_corners=False, antialias=antialias
        )
    return torch.cat([positions[:prefix], square.flatten(2)[0].T.to(positions.dtype)], dim=0)


def to_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, h*w, D), (h, w) -> (N, D, h, w)"""
    return tokens.transpose(1, 2).unflatten(2, grid)
