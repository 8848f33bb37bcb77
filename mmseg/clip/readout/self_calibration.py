"""Self-calibrated CLIP (SC-CLIP): repair anomalous tokens, adjust patches by early similarities."""

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..transformer import Trunk
from .attention import cosine_similarity, similarity_attention
from .switches import Readout, block_number, block_numbers

RunBlock = Callable[[Tensor, dict[str, Tensor]], Tensor]


def read_self_calibrated(
    run_block: RunBlock, depth: int, trunk: Trunk, readout: Readout, attentions: dict[str, Tensor]
) -> Tensor:
    """Read out the last block with a readout's `repair` and `layers`.

    Args:
        run_block: (N, prefix + h*w, width) tokens, attentions -> (N, h*w, width) patches.
        depth: blocks of the tower.
        attentions: {term: attention} that the last block cannot compute itself.

    Returns:
        (N, h*w, width) patches.
    """
    tokens, grid, outputs, prefix = trunk.tokens, trunk.grid, trunk.block_outputs, trunk.prefix
    anomalous = None
    if readout.repair:
        factors = local_outlier_factors(
            tokens[:, prefix:], neighbours=readout.repair.neighbours, reach=readout.repair.reach
        )
        anomalous = find_anomalies(factors, quantile=readout.repair.quantile)
        tokens = _replace_patches(tokens, repair_patches(tokens[:, prefix:], anomalous, grid))
    layers = readout.layers
    if layers is None:
        return run_block(tokens, attentions)
    before = outputs[block_number(layers.before, depth)][:, prefix:]
    if anomalous is not None:
        before = repair_patches(before, anomalous, grid)
    cosines = cosine_similarity(before)
    attentions['layer_similarity'] = similarity_attention(
        cosines, margin=readout.margin, gain=readout.gain
    )
    adjusted = average_similar(tokens[:, prefix:], cosines, threshold=layers.threshold)
    patches = run_block(_replace_patches(tokens, adjusted), attentions)
    if layers.fused:
        fused = [outputs[i] for i in block_numbers(layers.fused, depth)]
        patches = patches + run_block(reduce(torch.add, fused), attentions)
    after = outputs[block_number(layers.after, depth)][:, prefix:]
    return average_similar(patches, cosine_similarity(after), threshold=layers.threshold)


def _replace_patches(tokens: Tensor, patches: Tensor) -> Tensor:
    """(N, prefix + L, width), (N, L, width) -> (N, prefix + L, width), the prefix kept"""
    return torch.cat([tokens[:, : -patches.shape[1]], patches], dim=1)


def average_similar(patches: Tensor, cosines: Tensor, *, threshold: float) -> Tensor:
    """Replace each patch by the mean of similar ones, weighted by cosine (SC-CLIP, self-adjusting).

    (N, L, D), (N, L, L) -> (N, L, D)
    """
    weights = cosines.masked_fill(cosines < threshold, 0)
    return weights @ patches / (weights.sum(dim=2, keepdim=True) + 1e-6)


def local_outlier_factors(patches: Tensor, *, neighbours: int, reach: str = 'neighbour') -> Tensor:
    """Compute local outlier factors on squared distances (Breunig et al., SIGMOD 2000).

    A factor is about 1 within a cluster and larger outside. With no more patches than neighbours,
    all other patches count.

    (N, L, D) -> (N, L)

    Args:
        reach: see `Repair`.
    """
    count = min(neighbours, patches.shape[1] - 1)
    if count < 1:
        return torch.ones_like(patches[..., 0])
    distances = _squared_distances(patches)
    itself = torch.eye(patches.shape[1], dtype=torch.bool, device=patches.device)
    distances = distances.masked_fill(itself, torch.inf)
    nearest, index = distances.topk(count, dim=2, largest=False)
    k_distance = nearest[:, :, -1]
    bound = k_distance[:, :, None].expand_as(nearest)
    if reach == 'neighbour':
        bound = _gather(k_distance, index)
    reachability = nearest.maximum(bound)
    density = 1 / reachability.mean(dim=2).clamp_min(1e-10)
    return _gather(density, index).mean(dim=2) / density


def _squared_distances(patches: Tensor) -> Tensor:
    """(N, L, D) -> (N, L, L)"""
    if torch.compiler.is_exporting():  # ONNX has no operator for it
        centred = patches - patches.mean(dim=1, keepdim=True)
        squares = centred.square().sum(dim=2)
        products = centred @ centred.transpose(1, 2)
        return (squares[:, :, None] + squares[:, None] - 2 * products).clamp_min(0)
    return torch.cdist(patches, patches, compute_mode='donot_use_mm_for_euclid_dist').square()


def find_anomalies(factors: Tensor, *, quantile: float) -> Tensor:
    """(N, L) factors -> (N, L) bool, above the quantile of their image"""
    return factors > factors.quantile(quantile, dim=1, keepdim=True)


def repair_patches(patches: Tensor, anomalous: Tensor, grid: tuple[int, int]) -> Tensor:
    """Replace anomalous patches by the mean of their up to 8 normal neighbours, if there are any.

    (N, h*w, D), (N, h*w) bool -> (N, h*w, D)
    """
    normal = (~anomalous).to(patches.dtype)[..., None]
    total = _sum_neighbours(patches * normal, grid)
    count = _sum_neighbours(normal, grid)
    replace = anomalous[..., None] & (count > 0)
    return torch.where(replace, total / count.clamp_min(1), patches)


def _sum_neighbours(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, h*w, D) -> (N, h*w, D): sum of the up to 8 patches around each"""
    features = values.transpose(1, 2).unflatten(2, grid)
    total = F.pad(features, (1, 1, 1, 1))
    for axis, size in zip((2, 3), grid):  # ONNX's pooling has no sum
        left, middle, right = (total.narrow(axis, i, size) for i in range(3))
        total = left + middle + right
    return (total - features).flatten(2).transpose(1, 2)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """(N, L), (N, L, K) indices -> (N, L, K)"""
    return values[:, None].expand(-1, index.shape[1], -1).gather(2, index)
