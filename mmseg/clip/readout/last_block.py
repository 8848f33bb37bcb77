"""The last block by a Readout's switches: tokens before it in, patches behind it out."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import linear

from ..transformer import heads_of, project, run_mlp
from .anomaly import outlier_factors, outliers, repair
from .attention import (
    gather,
    mix,
    neighbourhood,
    resize_heads,
    resize_rows,
    sharpen,
    similarity,
    spread,
)
from .feedback import class_map
from .self_self import self_self_stream
from .switches import MAPS, number_of, numbers_of


class Outside(NamedTuple):
    """What others say of the patches.

    Attributes:
        cosines: (N, L, L) of a proxy's patches, or None.
        fine: (h', w'), h' * w' = L, grid of the proxy; None for the tower's own.
        classes: (N, h, w) class per patch from a first pass, -1 for none; or None.
    """

    cosines: Tensor | None = None
    fine: tuple[int, int] | None = None
    classes: Tensor | None = None


NOTHING = Outside()


def read_out(blocks, trunk, readout, outside=NOTHING) -> Tensor:
    """All blocks, a Trunk -> (N, h*w, width) before the last norm; on a finer grid h'*w'."""
    tokens, grid, seen, _ = trunk
    if readout.self_self:
        inputs = [(blocks[number], seen[number]) for number in sorted(seen)]
        stream = self_self_stream(inputs, readout)[:, 1:]
        return _finish(blocks[-1], stream, tokens[:, :1], readout)
    maps = _maps(readout, trunk, outside)
    answer = partial(_answer, blocks[-1], readout=readout, grid=grid, outside=outside)
    broken = None
    if readout.repair:
        broken = _broken(tokens, readout.repair)
        tokens = _repaired(tokens, broken, grid)
    if readout.layers is None:
        return answer(tokens, maps=maps)
    before, after, *fused = _layers(readout.layers, seen, len(blocks))
    if broken is not None:
        before = _repaired(before, broken, grid)
    cosines = similarity(before[:, 1:])
    maps['layer_similarity'] = sharpen(cosines, margin=readout.margin, gain=readout.gain)
    threshold = readout.layers.threshold
    tokens = _with_patches(tokens, gather(tokens[:, 1:], cosines, threshold=threshold))
    patches = answer(tokens, maps=maps)
    if fused:
        patches = patches + answer(sum(fused), maps=maps)
    return gather(patches, similarity(after[:, 1:]), threshold=threshold)


def _answer(block, tokens, *, readout, grid, outside, maps):
    """(N, 1 + h*w, width) -> (N, h*w, width): one block's attention, and what follows it"""
    first, patches = tokens[:, :1], tokens[:, 1:]
    if readout.terms == ('value',):
        attended = _values(block.attn, block.ln_1(patches))
    else:
        attended = _attended(block, tokens, readout, grid, outside, maps)
    attended = block.ls_1(attended)
    if readout.residual:
        attended = resize_rows(patches, grid, outside.fine) + attended
    return _finish(block, attended, first, readout)


def _finish(block, patches, first, readout):
    """(N, L, width) behind the attention, (N, 1, width) class token -> (N, L, width)"""
    if readout.cls_weight:
        patches = patches + readout.cls_weight * first
    if readout.mlp:
        patches = patches + block.ls_2(run_mlp(block.mlp, block.ln_2(patches)))
    return patches


def _attended(block, tokens, readout, grid, outside, maps):
    """(N, 1 + h*w, width) -> (N, L, width): the weighted sum of all terms, projected"""
    tokens = tokens if readout.use_cls_token else tokens[:, 1:]
    heads = heads_of(block.attn, block.ln_1(tokens))
    if outside.fine is not None:
        heads = [resize_heads(x, grid, outside.fine) for x in heads]
    factor, bias = _scores_change(readout, outside.fine or grid, outside.classes, tokens)
    mixed = mix(heads, readout.pairs(), factor=factor, bias=bias)
    for term, weight in readout.weighted():
        if term == 'value':
            mixed = mixed + weight * heads[2]
        elif term in MAPS:
            mixed = mixed + spread(weight * maps[term], heads[2])
    attended = project(block.attn, mixed)
    return attended[:, 1:] if readout.use_cls_token else attended


def _values(attn, tokens):
    """(N, L, width) normed -> (N, L, width): each token its own value, projected"""
    weight, bias = attn.in_proj_weight.chunk(3)[2], attn.in_proj_bias.chunk(3)[2]
    values = linear(tokens, weight, bias)
    return linear(values, attn.out_proj.weight, attn.out_proj.bias)


def _maps(readout, trunk, outside):
    """-> {term: (N, L, L), or per head} of what comes from outside the block, rows sum to 1"""
    maps = {}
    if 'early_attention' in readout.terms:
        early = trunk.early if readout.use_cls_token else trunk.early[..., 1:, 1:]
        maps['early_attention'] = (
            early if readout.use_cls_token else early / early.sum(dim=-1, keepdim=True)
        )
    if 'proxy' in readout.terms:
        maps['proxy'] = sharpen(outside.cosines, margin=readout.margin, gain=readout.gain)
    return maps


def _scores_change(readout, grid, classes, like):
    """-> factor and bias of the scores of pairs, see `mix`"""
    factor, bias = 1.0, None
    if readout.gaussian:
        bias = _beside_class(readout, neighbourhood(grid, readout.gaussian, like=like))
    if classes is not None:
        settings = readout.feedback
        steered = settings.gain * settings.share * class_map(classes, settings, like=like)[:, None]
        steered = _beside_class(readout, steered)
        factor = settings.gain * (1 - settings.share)
        bias = steered if bias is None else steered + bias
    return factor, bias


def _beside_class(readout, scores):
    """(..., h*w, h*w) -> the same, with nothing for the class token where it takes part"""
    return F.pad(scores, (1, 0, 1, 0)) if readout.use_cls_token else scores


def _layers(layers, seen, depth):
    """-> tokens behind the blocks `before`, `after` and all of `fused`"""
    numbers = [number_of(layers.before, depth), number_of(layers.after, depth)]
    return [seen[number] for number in numbers + numbers_of(layers.fused, depth)]


def _broken(tokens, settings):
    factors = outlier_factors(tokens[:, 1:], neighbours=settings.neighbours, reach=settings.reach)
    return outliers(factors, quantile=settings.quantile)


def _repaired(tokens, broken, grid):
    return _with_patches(tokens, repair(tokens[:, 1:], broken, grid))


def _with_patches(tokens, patches):
    return torch.cat([tokens[:, :1], patches], dim=1)
