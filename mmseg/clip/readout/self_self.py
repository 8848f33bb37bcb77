"""Self-self attention beside the last blocks (GEM, CVPR 2024, section 3)."""

import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import attention

from ..transformer import heads_of, project


def self_self_stream(block_inputs, readout) -> Tensor:
    """[(block, (N, L, D) its input on the plain path)] -> (N, L, D): the stream of self-self
    attention, which starts as the first input (or, without a residual, as nothing)."""
    stream = block_inputs[0][1] if readout.residual else 0
    for block, tokens in block_inputs:
        normed = block.ln_1(tokens)
        heads = heads_of(block.attn, normed)
        sharp = readout.self_self.temperature or mean_length(normed) / heads[0].shape[-1] ** 0.5
        mixed = sum(
            weight * _clustered(heads['qkv'.index(term[0])], heads[2], sharp, readout.self_self)
            for term, weight in readout.weighted()
        )
        stream = stream + block.ls_1(project(block.attn, mixed))
    return stream


def mean_length(tokens):
    """(N, L, D) -> (N, 1, 1, 1)"""
    return tokens.norm(dim=-1).mean(dim=1).view(-1, 1, 1, 1)


def _clustered(rows, values, sharp, settings):
    """(N, heads, L, d) twice, softmax temperature -> (N, heads, L, d)"""
    rows = F.normalize(rows, dim=-1)
    sharp = sharp * rows.shape[-1] ** 0.5  # `attention` divides by it
    for _ in range(settings.iterations):
        rows = F.normalize(attention(rows * sharp, rows, rows), dim=-1)
    return attention(rows * sharp, rows, values)
