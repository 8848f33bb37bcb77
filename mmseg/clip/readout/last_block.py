"""Read out the last block of a ViT for every patch, by the switches of a Readout."""

from functools import partial
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from mmseg.kernels import linear

from ..transformer import Trunk, output_projection, run_mlp, split_heads
from .attention import (
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
    blocks: Any, trunk: Trunk, readout: Readout, guidance: Guidance = NO_GUIDANCE
) -> Tensor:
    """Run the last block as a Readout says.

    Args:
        blocks: all of the tower's.
        trunk: the tokens before the last block.

    Returns:
        (N, h*w, width) patches before the last norm, or (N, h'*w', width) on a proxy's finer grid.
    """
    if readout.self_self:  # GEM
        inputs = [(blocks[i], trunk.block_outputs[i]) for i in sorted(trunk.block_outputs)]
        stream = self_self_stream(inputs, readout)
        return _finish(blocks[-1], stream[:, 1:], trunk.tokens[:, :1], readout)
    attentions = _external_attentions(readout, trunk, guidance)
    run_block = partial(_run_block, blocks[-1], grid=trunk.grid, readout=readout, guidance=guidance)
    if readout.repair or readout.layers:  # SC-CLIP
        return read_self_calibrated(run_block, len(blocks), trunk, readout, attentions)
    return run_block(trunk.tokens, attentions)


def _run_block(
    block: Any,
    tokens: Tensor,
    attentions: dict[str, Tensor],
    *,
    grid: tuple[int, int],
    readout: Readout,
    guidance: Guidance,
) -> Tensor:
    """Run one block with the readout's attention.

    (N, 1 + h*w, width) -> (N, L, width)

    Args:
        attentions: {term: (N, L, L) or (N, heads, L, L)} that the block cannot compute itself.
    """
    patches = tokens[:, 1:]
    if readout.terms == ('value',):  # MaskCLIP: each patch attends to itself
        attended = _project_values(block.attn, block.ln_1(patches))
    else:
        attended = _attend(block, tokens, grid, readout, guidance, attentions)
    attended = block.ls_1(attended)
    if readout.residual:
        attended = resize_tokens(patches, grid, guidance.proxy_grid) + attended
    return _finish(block, attended, tokens[:, :1], readout)


def _finish(block: Any, patches: Tensor, cls_token: Tensor, readout: Readout) -> Tensor:
    """Run the block after its attention: (N, L, width), (N, 1, width) -> (N, L, width)."""
    if readout.cls_weight:
        patches = patches + readout.cls_weight * cls_token
    if readout.mlp:
        patches = patches + block.ls_2(run_mlp(block.mlp, block.ln_2(patches)))
    return patches


def _project_values(attn: Any, tokens: Tensor) -> Tensor:
    """Apply the value and the output projection (MaskCLIP, ECCV 2022, section 3.2).

    (N, L, width) normed -> (N, L, width)
    """
    weight, bias = attn.in_proj_weight.chunk(3)[2], attn.in_proj_bias.chunk(3)[2]
    values = linear(tokens, weight, bias)
    return linear(values, attn.out_proj.weight, attn.out_proj.bias)


def _attend(
    block: Any,
    tokens: Tensor,
    grid: tuple[int, int],
    readout: Readout,
    guidance: Guidance,
    attentions: dict[str, Tensor],
) -> Tensor:
    """Sum the attention of all terms and project: (N, 1 + h*w, width) -> (N, L, width)."""
    tokens = tokens if readout.use_cls_token else tokens[:, 1:]
    qkv = split_heads(block.attn, block.ln_1(tokens))
    if guidance.proxy_grid is not None:
        qkv = [
            resize_tokens(x.flatten(0, 1), grid, guidance.proxy_grid).unflatten(0, x.shape[:2])
            for x in qkv
        ]
    values = qkv[2]
    factor, bias = _score_bias(readout, guidance.proxy_grid or grid, guidance.classes, tokens)
    mixed = sum_pair_attentions(qkv, readout.weighted_pairs(), factor=factor, bias=bias)
    for term, weight in readout.weighted_terms():
        if term == 'value':
            mixed = mixed + weight * values
        elif term in attentions:
            mixed = mixed + apply_attention(weight * attentions[term], values)
    attended = output_projection(block.attn, mixed)
    return attended[:, 1:] if readout.use_cls_token else attended


def _score_bias(
    readout: Readout, grid: tuple[int, int], classes: Tensor | None, like: Tensor
) -> tuple[float, Tensor | None]:
    """Compute factor and bias of the scores of pairs, see `sum_pair_attentions`.

    The bias is NACLIP's neighbourhood and ResCLIP's class affinity. The class token has none.
    """
    factor, bias = 1.0, None
    if readout.gaussian:
        bias = gaussian_neighbourhood(grid, readout.gaussian, like=like)
    if classes is not None and (feedback := readout.feedback):
        affinity = class_affinity(classes, feedback, like=like)[:, None]
        affinity = feedback.gain * feedback.weight * affinity
        factor = feedback.gain * (1 - feedback.weight)
        bias = affinity if bias is None else affinity + bias
    if bias is not None and readout.use_cls_token:
        bias = F.pad(bias, (1, 0, 1, 0))
    return factor, bias


def _external_attentions(readout: Readout, trunk: Trunk, guidance: Guidance) -> dict[str, Tensor]:
    """Collect the attentions that come from earlier blocks or from a proxy; rows sum to 1."""
    attentions = {}
    if 'early_attention' in readout.terms:
        assert trunk.early_attention is not None
        early = trunk.early_attention
        if not readout.use_cls_token:
            early = early[..., 1:, 1:]
            early = early / early.sum(dim=-1, keepdim=True)
        attentions['early_attention'] = early
    if 'proxy' in readout.terms:
        assert guidance.proxy_cosines is not None
        attentions['proxy'] = similarity_attention(
            guidance.proxy_cosines, margin=readout.margin, gain=readout.gain
        )
    return attentions
