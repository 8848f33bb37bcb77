"""Read out the last block of a ViT for every patch, by the switches of a Readout."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import VALUES, Block, join_heads, parts_of
from ..transformer import Trunk
from .attention import (
    Grid,
    apply_attention,
    gaussian_neighbourhood,
    resize_tokens,
    similarity_attention,
    sum_pair_attentions,
)
from .feedback import class_affinity
from .self_calibration import read_self_calibrated
from .self_self import self_self_stream
from .switches import Readout


class Guidance(NamedTuple):
    """Properties of the patches that come from outside the tower.

    Attributes:
        proxy_cosines: (N, L, L) of the patches of a proxy, or None.
        proxy_grid: (h', w') with h' * w' = L, if the proxy has a finer grid than the tower.
        classes: (N, h, w) classes of the patches from a first pass, -1 for none; or None.
    """

    proxy_cosines: Tensor | None = None
    proxy_grid: tuple[int, int] | None = None
    classes: Tensor | None = None


NO_GUIDANCE = Guidance()


def read_last_block(
    blocks: Sequence[nn.Module], trunk: Trunk, readout: Readout, guidance: Guidance = NO_GUIDANCE
) -> Tensor:
    """Run the last block as a Readout says.

    Args:
        blocks: all of the tower's.
        trunk: the tokens before the last block.

    Returns:
        (N, h*w, width) patches before the last norm, or (N, h'*w', width) on a proxy's finer grid.
    """
    last = parts_of(blocks[-1], trunk.rope)
    if readout.self_self:  # GEM
        outputs = sorted(trunk.block_outputs.items())
        inputs = [(parts_of(blocks[i], trunk.rope), tokens) for i, tokens in outputs]
        stream = self_self_stream(inputs, readout)
        return _finish(last, stream[:, trunk.prefix :], trunk.tokens[:, :1], readout)
    attentions = _external_attentions(readout, trunk, guidance)
    run_block = partial(_run_block, last, trunk=trunk, readout=readout, guidance=guidance)
    if readout.repair or readout.layers:  # SC-CLIP
        return read_self_calibrated(run_block, len(blocks), trunk, readout, attentions)
    return run_block(trunk.tokens, attentions)


def _run_block(
    block: Block,
    tokens: Tensor,
    attentions: dict[str, Tensor],
    *,
    trunk: Trunk,
    readout: Readout,
    guidance: Guidance,
) -> Tensor:
    """Run one block with the readout's attention.

    (N, prefix + h*w, width) -> (N, L, width)

    Args:
        attentions: {term: (N, L, L) or (N, heads, L, L)} that the block cannot compute itself.
        trunk: its grid and prefix are those of the tokens.
    """
    patches = tokens[:, trunk.prefix :]
    if readout.terms == ('value',):  # MaskCLIP: each patch attends to itself
        attended = block.out(block.project(block.norm_1(patches), VALUES))
    else:
        attended = _attend(block, tokens, trunk, readout, guidance, attentions)
    attended = block.ls_1(attended)
    if readout.residual:
        attended = resize_tokens(patches, trunk.grid, guidance.proxy_grid) + attended
    return _finish(block, attended, tokens[:, :1], readout)


def _finish(block: Block, patches: Tensor, cls_token: Tensor, readout: Readout) -> Tensor:
    """Run the block after its attention: (N, L, width), (N, 1, width) -> (N, L, width)."""
    if readout.cls_weight:
        patches = patches + readout.cls_weight * cls_token
    if readout.mlp:
        patches = patches + block.ls_2(block.mlp(block.norm_2(patches)))
    return patches


def _attend(
    block: Block,
    tokens: Tensor,
    trunk: Trunk,
    readout: Readout,
    guidance: Guidance,
    attentions: dict[str, Tensor],
) -> Tensor:
    """Sum the attention of all terms and project: (N, prefix + h*w, width) -> (N, L, width)."""
    prefix = trunk.prefix if readout.use_cls_token else 0
    tokens = tokens[:, trunk.prefix - prefix :]
    qkv = block.qkv(block.norm_1(tokens))
    if guidance.proxy_grid is not None:
        qkv = [_resize_heads(x, trunk.grid, guidance.proxy_grid) for x in qkv]
    values = qkv[2]
    grid = guidance.proxy_grid or trunk.grid
    factor, bias = _score_bias(readout, grid, guidance.classes, prefix, like=tokens)
    mixed = sum_pair_attentions(qkv, readout.weighted_pairs(), factor=factor, bias=bias)
    for term, weight in readout.weighted_terms():
        if term == 'value':
            mixed = mixed + weight * values
        elif term in attentions:
            mixed = mixed + apply_attention(weight * attentions[term], values)
    return block.out(join_heads(mixed))[:, prefix:]


def _resize_heads(x: Tensor, grid: Grid, size: Grid) -> Tensor:
    """(N, heads, h*w, d), (h, w), (h', w') -> (N, heads, h'*w', d)"""
    return resize_tokens(x.flatten(0, 1), grid, size).unflatten(0, x.shape[:2])


def _score_bias(
    readout: Readout, grid: tuple[int, int], classes: Tensor | None, prefix: int, *, like: Tensor
) -> tuple[float, Tensor | None]:
    """Compute factor and bias of the scores of pairs, see `sum_pair_attentions`.

    The bias is NACLIP's neighbourhood and ResCLIP's class affinity. Prefix tokens have none.
    """
    factor, bias = 1.0, None
    if readout.gaussian:
        bias = gaussian_neighbourhood(grid, readout.gaussian, like=like)
    if classes is not None and (feedback := readout.feedback):
        affinity = class_affinity(classes, feedback, like=like)[:, None]
        affinity = feedback.gain * feedback.weight * affinity
        factor = feedback.gain * (1 - feedback.weight)
        bias = affinity if bias is None else affinity + bias
    if bias is not None and prefix:
        bias = F.pad(bias, (prefix, 0, prefix, 0))
    return factor, bias


def _external_attentions(readout: Readout, trunk: Trunk, guidance: Guidance) -> dict[str, Tensor]:
    """Collect the attentions that come from earlier blocks or from a proxy; rows sum to 1."""
    attentions = {}
    if 'early_attention' in readout.terms:
        assert trunk.early_attention is not None
        early = trunk.early_attention
        if not readout.use_cls_token:
            early = early[..., trunk.prefix :, trunk.prefix :]
            early = early / early.sum(dim=-1, keepdim=True)
        attentions['early_attention'] = early
    if 'proxy' in readout.terms:
        assert guidance.proxy_cosines is not None
        attentions['proxy'] = similarity_attention(
            guidance.proxy_cosines, margin=readout.margin, gain=readout.gain
        )
    return attentions
