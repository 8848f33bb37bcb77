"""A proxy from images alone (He et al., Masked Autoencoders, CVPR 2022)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmseg.clip import ProxyViT, load_proxy
from mmseg.utils import Count, Fraction, validated

from .build import builds


class MaskedAutoencoder(BaseModel):
    """Train a ProxyViT: one more block predicts the hidden patches from the visible ones.

    Args:
        proxy: a ProxyViT, the result of the training.
        patch: pixels of the image per patch, whatever size the proxy sees it at.
        side: patches along a side of the image.
        keep: share of the patches that the proxy sees.
    """

    @validated
    def __init__(
        self, proxy: ProxyViT, /, *, patch: Count, side: Count, keep: Fraction = 0.25
    ) -> None:
        super().__init__(data_preprocessor=BaseDataPreprocessor(non_blocking=True))
        width, heads = proxy.vit.embed_dim, proxy.vit.blocks[0].attn.num_heads
        self.proxy, self.patch, self.side, self.keep = proxy, patch, side, keep
        self.enter = nn.Linear(width, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(side**2, width))
        self.block = Block(width, heads, qkv_bias=True)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * patch**2))

    def forward(
        self, inputs: Sequence[Tensor], data_samples: Any = None, mode: str = 'loss', **context: Any
    ) -> dict[str, Tensor]:
        """Compute the loss of hidden patches: [(3, S, S) uint8], S = side * patch -> {name: ()}"""
        image = torch.stack(list(inputs)).float()
        visible = self.choose(image)
        error = (self.draw(image, visible) - self.targets(image)).square().mean(dim=2)
        hidden = error.numel() - visible.numel()
        return dict(loss_drawn=error.scatter(1, visible, 0).sum() / hidden)

    def choose(self, image: Tensor) -> Tensor:
        """Draw the visible patches of each image: (N, 3, S, S) -> (N, K) positions"""
        order = torch.rand(len(image), self.side**2, device=image.device).argsort(dim=1)
        return order[:, : max(1, round(self.keep * self.side**2))]

    def draw(self, image: Tensor, visible: Tensor) -> Tensor:
        """Predict all patches from the visible ones: (N, 3, S, S), (N, K) -> (N, L, 3 * patch^2)"""
        tokens, prefix = self.proxy.embed(image, (self.side,) * 2), self.proxy.vit.num_prefix_tokens
        kept = tokens[:, prefix:].gather(1, as_rows(visible, tokens))
        encoded = self.enter(self.proxy.encode(torch.cat([tokens[:, :prefix], kept], dim=1)))
        every = self.hidden.expand(len(tokens), self.side**2, -1)
        every = every.scatter(1, as_rows(visible, tokens), encoded.to(every)) + self.positions
        return self.leave(self.block(every))

    def targets(self, image: Tensor) -> Tensor:
        """Normalise patches to mean 0 and variance 1: (N, 3, S, S) -> (N, L, 3 * patch^2)"""
        rows = F.unfold(image, self.patch, stride=self.patch).transpose(1, 2)
        return F.layer_norm(rows, rows.shape[-1:])


@builds(MaskedAutoencoder)
def build_masked_autoencoder(
    model: str, vocabulary: Any = None, *, pretrained: str = 'random', **options: Any
) -> MaskedAutoencoder:
    """Build a MaskedAutoencoder of a timm ViT, as `load_proxy` reads it."""
    return MaskedAutoencoder(load_proxy(model, pretrained), **options)


def as_rows(positions: Tensor, tokens: Tensor) -> Tensor:
    """Expand positions to gather whole tokens: (N, K), (N, L, D) -> (N, K, D)"""
    return positions[..., None].expand(-1, -1, tokens.shape[-1])
