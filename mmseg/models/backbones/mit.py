"""SegFormer's encoder (NeurIPS 2021), in mmsegmentation's parameter names."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from mmseg.clip.transformer import to_grid
from mmseg.kernels import linear

# Width of a head, and depths; heads and reductions are the same for all sizes.
SIZES = {
    'b0': (32, (2, 2, 2, 2)),
    'b1': (64, (2, 2, 2, 2)),
    'b2': (64, (3, 4, 6, 3)),
    'b3': (64, (3, 4, 18, 3)),
    'b4': (64, (3, 8, 27, 3)),
    'b5': (64, (3, 6, 40, 3)),
}
HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)
KERNELS, STRIDES = (7, 3, 3, 3), (4, 2, 2, 2)
EPS = 1e-6


def to_tokens(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h*w, C)"""
    return features.flatten(2).transpose(1, 2)


class PatchEmbed(nn.Module):
    """Overlapping strided convolution and LayerNorm: (N, C, H, W) -> (N, h*w, D), (h, w)"""

    def __init__(self, channels: int, dim: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, dim, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        features = self.projection(image)
        height, width = features.shape[2:]
        return self.norm(to_tokens(features)), (height, width)


class EfficientAttention(nn.Module):
    """Self-attention whose keys and values come from a map reduced by a strided convolution."""

    def __init__(self, dim: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)  # its weights, not its code
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, h*w, D), (h, w) -> (N, h*w, D)"""
        source = tokens
        if self.reduction > 1:
            source = self.norm(to_tokens(self.sr(to_grid(tokens, size))))
        (query_w, key_value_w), (query_b, key_value_b) = (
            p.tensor_split([tokens.shape[-1]])
            for p in (self.attn.in_proj_weight, self.attn.in_proj_bias)
        )
        query = self._by_head(linear(tokens, query_w, query_b))
        keys, values = linear(source, key_value_w, key_value_b).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(query, self._by_head(keys), self._by_head(values))
        project = self.attn.out_proj
        return linear(mixed.transpose(1, 2).flatten(2), project.weight, project.bias)

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(N, L, D) -> (N, heads, L, D / heads)"""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class MixFFN(nn.Module):
    """1x1 convolution, 3x3 depth-wise convolution, GELU, 1x1 convolution."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Identity(),  # mmsegmentation's dropout, which is 0 in every MiT
            nn.Conv2d(hidden, dim, 1),
        )

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, h*w, D), (h, w) -> (N, h*w, D)"""
        layers: Any = self.layers
        widen, depthwise, gelu, _, narrow = layers
        hidden = linear(tokens, widen.weight.flatten(1), widen.bias)
        hidden = to_tokens(gelu(depthwise(to_grid(hidden, size))))
        return linear(hidden, narrow.weight.flatten(1), narrow.bias)


class Block(nn.Module):
    """Attention and Mix-FFN, each normalised before and added."""

    def __init__(self, dim: int, *, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = EfficientAttention(dim, heads=heads, reduction=reduction)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.ffn = MixFFN(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, h*w, D), (h, w) -> (N, h*w, D)"""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), size))
        return tokens + self.drop_path(self.ffn(self.norm2(tokens), size))


class MixVisionTransformer(nn.Module):
    """MiT: four stages of overlapping patches and efficient attention.

    Args:
        size: 'b0' to 'b5'.
        drop_path: rate of the last block; the others' rise to it linearly.

    Attributes:
        channels: of the four outputs.
    """

    def __init__(self, size: str = 'b5', *, drop_path: float = 0.1) -> None:
        super().__init__()
        width, depths = SIZES[size]
        self.channels = tuple(width * heads for heads in HEADS)
        rates = torch.linspace(0, drop_path, sum(depths)).split(list(depths))
        self.layers = nn.ModuleList()
        inputs = (3, *self.channels[:-1])
        for i, (dim, heads, reduction) in enumerate(zip(self.channels, HEADS, REDUCTIONS)):
            embed = PatchEmbed(inputs[i], dim, kernel=KERNELS[i], stride=STRIDES[i])
            blocks = [
                Block(dim, heads=heads, reduction=reduction, drop_path=float(rate))
                for rate in rates[i]
            ]
            norm = nn.LayerNorm(dim, eps=EPS)
            self.layers.append(nn.ModuleList([embed, nn.ModuleList(blocks), norm]))
        self.apply(_init)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the four stages: (N, 3, H, W) normalised -> [(N, C_i, H / r_i, W / r_i)]"""
        outputs, features = [], image
        stages: Any = self.layers
        for embed, blocks, norm in stages:
            tokens, size = embed(features)
            for block in blocks:
                tokens = block(tokens, size)
            features = to_grid(norm(tokens), size)
            outputs.append(features)
        return outputs


def _init(module: nn.Module) -> None:
    """Truncated normal for linear layers, He by fan-out for convolutions, as SegFormer starts."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, std=(2 / (fan_out / module.groups)) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
