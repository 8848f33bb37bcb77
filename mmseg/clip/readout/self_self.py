"""Self-self attention beside the last blocks (GEM, CVPR 2024, section 3)."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import attention

from ..blocks import Block, join_heads
from .switches import Readout, SelfSelf


def self_self_stream(inputs: list[tuple[Block, Tensor]], readout: Readout) -> Tensor:
    """Run the stream that gathers the self-self attention of some blocks.

    It starts as the first input, or as zeros without a residual.

    Args:
        inputs: (block, (N, L, D) its input in the plain tower) of each block, in order.

    Returns:
        (N, L, D)
    """
    settings = readout.self_self
    assert settings is not None
    stream = inputs[0][1] if readout.residual else torch.zeros_like(inputs[0][1])
    for block, tokens in inputs:
        normed = block.norm_1(tokens)
        query, keys, values = block.qkv(normed)
        by_name = dict(q=query, k=keys, v=values)
        mean_length = normed.norm(dim=-1).mean(dim=1).view(-1, 1, 1, 1)  # (N, 1, 1, 1)
        scale = settings.temperature or mean_length / values.shape[-1] ** 0.5
        mixed = [
            weight * _iterated_attention(by_name[first], values, scale, settings)
            for first, _, weight in readout.weighted_pairs()
        ]
        stream = stream + block.ls_1(block.out(join_heads(reduce(torch.add, mixed))))
    return stream


def _iterated_attention(
    rows: Tensor, values: Tensor, scale: float | Tensor, settings: SelfSelf
) -> Tensor:
    """Average values by softmax(scale * cosine) of rows, which first iterate towards clusters.

    (N, heads, L, d) rows, (N, heads, L, d) values -> (N, heads, L, d)
    """
    rows = F.normalize(rows, dim=-1)
    scale = scale * rows.shape[-1] ** 0.5  # `attention` divides by it
    for _ in range(settings.iterations):
        rows = F.normalize(attention(rows * scale, rows, rows), dim=-1)
    return attention(rows * scale, rows, values)
