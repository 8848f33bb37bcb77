"""Another ViT that says which patches belong together (ProxyCLIP, ECCV 2024)."""

import logging

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.kernels import linear
from mmseg.utils import channel_statistics, nearest, reason_of, require_choice
from mmseg.utils.checkpoint import misfit, read_state
from mmseg.utils.timm_weights import create_with_weights

from .readout.attention import similarity
from .transformer import RULES, resize_positions

logger = logging.getLogger(__name__)
HEADS = ('head.', 'fc_norm.', 'attn_pool.')


class ProxyViT(nn.Module):
    """Photos -> cosines of a ViT's patches, on a grid that divides another tower's.

    The photo is resized so that a proxy patch covers a whole part of the tower's patch: DINO's of 8
    a half of CLIP's 16, DINOv2's of 14 all of it. So any shape of photo, and any pair of patch
    sizes, gives grids that lie on one another.

    Args:
        vit: timm's VisionTransformer.
        mean, std: RGB, for values in 0..1.
        positions: rule of `resize_positions`.
        parts: proxy patches along a patch of the tower, a divisor of its size; None for the
            nearest to the proxy's own resolution.
    """

    def __init__(self, vit, *, mean, std, positions='size', parts=None):
        super().__init__()
        require_choice('positions', positions, RULES)
        self.vit, self.positions, self.parts = vit, positions, parts
        mean, std = channel_statistics(mean, std)
        self.register_buffer('mean', mean[None], persistent=False)
        self.register_buffer('std', std[None], persistent=False)

    @property
    def patch(self):
        """Pixels of its input per patch."""
        return self.vit.patch_embed.patch_size[0]

    def parts_of(self, stride):
        """Pixels per patch of the tower -> proxy patches along it

        Raises:
            UserError: `parts` does not divide it.
        """
        if self.parts is None:
            wanted = max(1, round(stride / self.patch))
            return max(n for n in range(1, wanted + 1) if stride % n == 0)
        if not isinstance(self.parts, int) or self.parts < 1 or stride % self.parts:
            raise UserError(
                f"the proxy's parts are a divisor of the tower's patch of {stride} pixels, not "
                f'{self.parts!r}'
            )
        return self.parts

    def say_how_it_sees(self, stride):
        """Log at which size photos are shown to it, where its patches do not fit the tower's."""
        parts = self.parts_of(stride)
        if parts * self.patch != stride:
            logger.warning(
                "the proxy's patches of %d pixels do not divide CLIP's of %d: photos are shown to "
                'it at %.3g times their size, so that %d of its patches span one',
                self.patch,
                stride,
                parts * self.patch / stride,
                parts,
            )

    def forward(self, image, grid) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, h*w, h*w) cosines of its patches"""
        return similarity(self.patches(image, grid))

    def patches(self, image, grid) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, h*w, D) tokens behind the last norm"""
        return self.encode(self.embed(image, grid))

    def embed(self, image, grid) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, prefix + h*w, D), with positions"""
        image = (image.to(self.mean.dtype) - self.mean) / self.std
        size = tuple(n * self.patch for n in grid)
        if tuple(image.shape[-2:]) != size:
            image = F.interpolate(image, size, mode='bilinear', align_corners=False, antialias=True)
        embed = self.vit.patch_embed
        return self._with_positions(embed.norm(embed.proj(image).flatten(2).transpose(1, 2)), grid)

    def encode(self, tokens) -> Tensor:
        """(N, prefix + L, D), any L of the patches -> (N, L, D) behind the last norm"""
        vit = self.vit
        return vit.norm(vit.blocks(vit.norm_pre(tokens)))[:, vit.num_prefix_tokens :]

    def _with_positions(self, tokens, grid):
        """(N, h*w, D) -> (N, prefix + h*w, D): as timm's `_pos_embed`, for any grid"""
        vit = self.vit
        first = [
            t.expand(len(tokens), -1, -1) for t in (vit.cls_token, vit.reg_token) if t is not None
        ]
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        positions = resize_positions(vit.pos_embed[0], grid, self.positions, prefix=prefix)
        if vit.no_embed_class:
            return torch.cat([*first, tokens + positions], dim=1)
        return torch.cat([*first, tokens], dim=1) + positions


def load_proxy(model, pretrained, *, mean=None, std=None, positions='size', parts=None) -> ProxyViT:
    """A timm ViT by name -> ProxyViT, in fp32, in eval mode, with all its weights or an error.

    Args:
        model: a name of timm, such as 'vit_base_patch16_224.dino', 'vit_base_patch14_dinov2'.
        pretrained: a file in timm's names or in those of DINO's and DINOv2's releases; 'timm' for
            timm's own source of that name's weights, or its cache; 'random' for untrained.
        mean, std: RGB in 0..1; None takes the model's own (ImageNet's, for DINO).
        positions, parts: see `ProxyViT`.

    Raises:
        UserError: an unknown name, no ViT of this kind, weights that cannot be had or do not fit.
    """
    vit = _create(model, pretrained == 'timm')
    if pretrained not in ('timm', 'random'):
        _load(vit, model, pretrained)
    for layer in vit.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Linear
    known = vit.pretrained_cfg
    mean, std = mean or known['mean'], std or known['std']
    return ProxyViT(vit.float().eval(), mean=mean, std=std, positions=positions, parts=parts)


class _Linear(nn.Linear):
    """On this project's kernels"""

    def forward(self, x):
        return linear(x, self.weight, self.bias)


def _create(model, fetch):
    known = {*timm.list_models(), *timm.list_pretrained()}
    if model not in known:
        raise UserError(
            f'timm has no model {model!r}{nearest(model, known)}; see timm.list_models()'
        )
    vit = (create_with_weights if fetch else timm.create_model)(model, num_classes=0)
    if not isinstance(vit, VisionTransformer) or vit.pos_embed is None:
        raise UserError(
            f'the proxy {model} is a {type(vit).__name__}; only plain ViTs with position '
            "embeddings can be one, such as 'vit_base_patch16_224.dino'"
        )
    return vit


def _load(vit, model, file):
    """All of a file's weights into a timm ViT; heads that it has besides are left."""
    state = read_state(file)
    try:
        state = checkpoint_filter_fn(state, vit)
    except Exception as error:  # timm's, for weights of its own models
        raise UserError(f'{file} does not fit the proxy {model}: {reason_of(error)}') from error
    state = {name.removeprefix('backbone.'): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}
    reason = misfit(vit.state_dict(), state)
    if reason:
        raise UserError(
            f'{file} does not fit the proxy {model} ({reason}); name the model that it is of'
        )
    vit.load_state_dict(state)
