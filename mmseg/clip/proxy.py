"""A ViT other than CLIP whose patch similarities serve as attention (ProxyCLIP, ECCV 2024)."""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.kernels import linear
from mmseg.utils import Count, library_errors, nearest, validated
from mmseg.utils.checkpoint import create_with_weights, misfit, read_state
from mmseg.utils.tensors import RGB, channel_statistics

from .readout.attention import cosine_similarity
from .transformer import PositionRule, resize_positions
from .vit import accept_any_size

logger = logging.getLogger(__name__)
HEADS = ('head.', 'fc_norm.', 'attn_pool.')


class ProxyViT(nn.Module):
    """Compute the cosines between a ViT's patches, on a grid that divides a CLIP tower's grid.

    The image is resized so that whole patches of the proxy cover a patch of the tower: two of
    DINO's 8 pixels along CLIP's 16, one of DINOv2's 14. So grids align for any image shape and any
    pair of patch sizes.

    Args:
        vit: timm's VisionTransformer (DINO, DINOv2, RADIO) or Eva (DINOv3, PE-spatial), with any
            number of prefix tokens.
        mean, std: RGB, for values in 0..1.
        positions: rule of `resize_positions`. Networks with rotary positions have timm's.
        parts: proxy patches along a patch of the tower, a divisor of its size. None for the number
            nearest to the resolution of the proxy.

    Raises:
        UserError: a rule of positions for a network that has its own.
    """

    mean: Tensor
    std: Tensor

    @validated
    def __init__(
        self,
        vit: nn.Module,
        /,
        *,
        mean: RGB,
        std: RGB,
        positions: PositionRule = 'size',
        parts: Count | None = None,
    ) -> None:
        from timm.layers import PatchEmbed

        super().__init__()
        self.vit: Any = vit
        self.positions, self.parts = positions, parts
        self.is_plain = (
            type(vit).__name__ == 'VisionTransformer'
            and self.vit.pos_embed is not None
            and isinstance(self.vit.patch_embed, PatchEmbed)
        )
        if not self.is_plain:
            if positions != 'size':
                raise UserError(
                    f'the proxy is a {type(vit).__name__} with positions of its own and has no '
                    "choice of them; set backbone.proxy.positions='size'"
                )
            accept_any_size(vit)
        pixel_mean, pixel_std = channel_statistics(mean, std)
        self.register_buffer('mean', pixel_mean[None], persistent=False)
        self.register_buffer('std', pixel_std[None], persistent=False)

    @property
    def patch(self) -> int:
        """Side of the proxy's patches, in pixels."""
        return self.vit.patch_embed.feat_ratio()

    def parts_of(self, stride: int) -> int:
        """Tell how many proxy patches lie along a tower's patch of `stride` pixels.

        Raises:
            UserError: `parts` does not divide it.
        """
        if self.parts is None:
            ideal = max(1, round(stride / self.patch))
            return max(n for n in range(1, ideal + 1) if stride % n == 0)
        if stride % self.parts:
            raise UserError(
                f"backbone.proxy.parts must be a divisor of the tower's patch of {stride} pixels, "
                f'not {self.parts!r}'
            )
        return self.parts

    def warn_of_resizing(self, stride: int) -> None:
        """Log the size of the proxy's input if its patches do not divide those of the tower."""
        parts = self.parts_of(stride)
        if parts * self.patch != stride:
            logger.warning(
                "the proxy's patches of %d pixels do not divide CLIP's of %d: the proxy sees "
                'photos at %.3g times their size, so that %d of its patches span one',
                self.patch,
                stride,
                parts * self.patch / stride,
                parts,
            )

    def forward(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, h*w, h*w) cosines between patches"""
        return cosine_similarity(self.patches(image, grid))

    def patches(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, h*w, D) after the last norm"""
        if self.is_plain:
            return self.encode(self.embed(image, grid))
        tokens = self.vit.forward_features(self._prepare(image, grid))
        return tokens[:, self.vit.num_prefix_tokens :]

    def embed(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, prefix + h*w, D), with positions

        Raises:
            UserError: a network with positions of its own.
        """
        if not self.is_plain:
            raise UserError(
                f'patches of the proxy {type(self.vit).__name__} cannot be left out one by one; '
                "use a plain ViT of timm, such as 'vit_tiny_patch16_224'"
            )
        embed, image = self.vit.patch_embed, self._prepare(image, grid)
        return self._with_positions(embed.norm(embed.proj(image).flatten(2).transpose(1, 2)), grid)

    def _prepare(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """(N, 3, H, W) RGB in 0..255, (h, w) -> (N, 3, h * patch, w * patch) normalised"""
        image = (image.to(self.mean.dtype) - self.mean) / self.std
        size = (grid[0] * self.patch, grid[1] * self.patch)
        if tuple(image.shape[-2:]) != size:
            image = F.interpolate(image, size, mode='bilinear', align_corners=False, antialias=True)
        return image

    def encode(self, tokens: Tensor) -> Tensor:
        """(N, prefix + L, D), any subset of patches -> (N, L, D) after the last norm"""
        vit = self.vit
        return vit.norm(vit.blocks(vit.norm_pre(tokens)))[:, vit.num_prefix_tokens :]

    def _with_positions(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Add prefix tokens and positions, as timm's `_pos_embed` does, on any grid.

        (N, h*w, D) -> (N, prefix + h*w, D)
        """
        vit = self.vit
        prefix = [
            t.expand(len(tokens), -1, -1) for t in (vit.cls_token, vit.reg_token) if t is not None
        ]
        kept = 0 if vit.no_embed_class else vit.num_prefix_tokens
        positions = resize_positions(vit.pos_embed[0], grid, self.positions, prefix=kept)
        if vit.no_embed_class:
            return torch.cat([*prefix, tokens + positions], dim=1)
        return torch.cat([*prefix, tokens], dim=1) + positions


def load_proxy(
    model: str,
    pretrained: str | Path,
    *,
    mean: RGB | None = None,
    std: RGB | None = None,
    positions: PositionRule = 'size',
    parts: Count | None = None,
) -> ProxyViT:
    """Load a timm ViT as a proxy, in fp32 and eval mode, with all its weights.

    Args:
        model: a name of timm, such as 'vit_base_patch16_224.dino', 'vit_base_patch14_dinov2',
            'vit_base_patch16_dinov3', 'vit_pe_spatial_base_patch16_512' or
            'vit_base_patch16_radio_v3'.
        pretrained: a file in timm's names or in those of a release that timm can read (DINO,
            DINOv2); 'timm' for timm's weights of that name, or their file in `pretrain`; 'random'
            for none.
        mean, std: RGB, for values in 0..1. None for those of the model.
        positions, parts: see `ProxyViT`.

    Raises:
        UserError: an unknown name, another network than a ViT, or weights that do not fit.
    """
    vit = _create(model, pretrained == 'timm')
    if pretrained not in ('timm', 'random'):
        _load(vit, model, str(pretrained))
    for layer in vit.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = _Linear
    known = vit.pretrained_cfg
    mean, std = mean or known['mean'], std or known['std']
    return ProxyViT(vit.float().eval(), mean=mean, std=std, positions=positions, parts=parts)


class _Linear(nn.Linear):
    """A linear layer on the project's kernels."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def _create(model: str, fetch: bool) -> Any:
    import timm
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    known = {*timm.list_models(), *timm.list_pretrained()}
    if model not in known:
        raise UserError(
            f'timm has no model {model!r}{nearest(model, known)}; see timm.list_models()'
        )
    vit = (create_with_weights if fetch else timm.create_model)(model, num_classes=0)
    if not isinstance(vit, (VisionTransformer, Eva)):
        raise UserError(
            f'the proxy {model} is a {type(vit).__name__}; only plain ViTs and Eva (DINOv3, PE) '
            "can be one, such as 'vit_base_patch16_224.dino' or 'vit_base_patch16_dinov3'"
        )
    return vit


def _load(vit: Any, model: str, file: str) -> None:
    """Load all weights of a ViT from a file; heads in the file are left out."""
    state = read_state(file)
    problem, cure = f'{file} does not fit the proxy {model}', 'name the model that it is of'
    with library_errors(problem, cure):
        state = sys.modules[type(vit).__module__].checkpoint_filter_fn(state, vit)
    state = {name.removeprefix('backbone.'): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}
    if reason := misfit(vit.state_dict(), state):
        raise UserError(f'{problem} ({reason}); {cure}')
    vit.load_state_dict(state)
