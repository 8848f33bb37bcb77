"""A proxy from images alone (He et al., Masked Autoencoders, CVPR 2022)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from timm.models.vision_transformer import Block
from torch import nn

from mmseg.clip import load_proxy
from mmseg.registry import MODELS

from .data_preprocessor import SegDataPreprocessor


@MODELS.register_module(name='MaskedAutoencoder')
def build_masked_autoencoder(model, vocabulary=None, *, pretrained='random', **options):
    """A timm ViT, as `load_proxy` reads it, and options of MaskedAutoencoder -> it."""
    return MaskedAutoencoder(load_proxy(model, pretrained), **options)


class MaskedAutoencoder(BaseModel):
    """A ProxyViT sees some patches of an image; one block behind it draws the others.

    Args:
        proxy: a ProxyViT: what is kept of the training.
        patch: pixels of the image per patch, whatever size the proxy sees it at.
        side: patches along a side of the image.
        keep: share of the patches that the proxy sees.
    """

    def __init__(self, proxy, *, patch, side, keep=0.25):
        super().__init__(data_preprocessor=SegDataPreprocessor())
        width, heads = proxy.vit.embed_dim, proxy.vit.blocks[0].attn.num_heads
        self.proxy, self.patch, self.side, self.keep = proxy, patch, side, keep
        self.enter = nn.Linear(width, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(side**2, width))
        self.block = Block(width, heads, qkv_bias=True)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * patch**2))

    def forward(self, inputs, data_samples=None, mode='loss', **context):
        """[(3, S, S) uint8], S = side * patch -> {'loss_drawn': ()} of the patches not seen"""
        image = torch.stack(inputs).float()
        seen = self.choose(image)
        error = (self.draw(image, seen) - self.targets(image)).square().mean(dim=2)
        return dict(loss_drawn=error.scatter(1, seen, 0).sum() / (error.numel() - seen.numel()))

    def choose(self, image):
        """(N, 3, S, S) -> (N, K) places of the patches to be seen, other ones in each image"""
        order = torch.rand(len(image), self.side**2, device=image.device).argsort(dim=1)
        return order[:, : max(1, round(self.keep * self.side**2))]

    def draw(self, image, seen):
        """(N, 3, S, S) in 0..255, (N, K) -> (N, L, 3 * patch^2), by nothing but what is seen"""
        tokens, prefix = self.proxy.embed(image, (self.side,) * 2), self.proxy.vit.num_prefix_tokens
        kept = tokens[:, prefix:].gather(1, as_rows(seen, tokens))
        found = self.enter(self.proxy.encode(torch.cat([tokens[:, :prefix], kept], dim=1)))
        every = self.hidden.expand(len(tokens), self.side**2, -1)
        every = every.scatter(1, as_rows(seen, tokens), found.to(every)) + self.positions
        return self.leave(self.block(every))

    def targets(self, image):
        """(N, 3, S, S) -> (N, L, 3 * patch^2), each patch of mean 0 and variance 1"""
        rows = F.unfold(image, self.patch, stride=self.patch).transpose(1, 2)
        return F.layer_norm(rows, rows.shape[-1:])


def as_rows(places, tokens):
    """(N, K), (N, L, D) -> (N, K, D), to gather whole tokens by"""
    return places[..., None].expand(-1, -1, tokens.shape[-1])
