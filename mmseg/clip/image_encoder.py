"""The frozen CLIP image encoder: image -> patch features in text space, keys, image embedding.

`CLIPDenseExtractor` normalises and pads the image. `towers.py` computes the features, and
`readout/` holds the attentions that a ViT's last block may have.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import validated
from mmseg.utils.tensors import RGB, channel_statistics

from .proxy import ProxyViT
from .readout import NO_GUIDANCE, PRESETS, Guidance, Readout, patch_classes
from .towers import build_tower
from .transformer import PositionRule, Trunk

Score = Callable[[Tensor], Tensor]  # (N, D, h, w) -> (N, C, h, w) cosines with the text


class DenseFeatures(NamedTuple):
    """Features of each patch.

    Attributes:
        patches: (N, D, h, w) in text space, not normalised.
        keys: (N, h*w, K) last-layer keys, not normalised.
    """

    patches: Tensor
    keys: Tensor


class CLIPDenseExtractor(nn.Module):
    """Extract a feature in text space for every patch, with a frozen CLIP image tower.

    By default the last attention is the identity (MaskCLIP, ECCV 2022, section 3.2): its value and
    output projections, and the layers after them, apply to each patch by itself. In a ViT with the
    tokens x before its last block: y = x + W_o W_v LN_1(x), z = y + MLP(LN_2(y)), and the feature
    is the projection of LN_post(z). For ViTs, a `readout` chooses other attentions.

    Args:
        visual: the `visual` of an open_clip model (ViT, ModifiedResNet or timm tower).
        mean, std: RGB, for values in 0..1. The extractor normalises the image itself.
        project_keys: apply the output projection to a ViT's keys (as in the original code, Q2).
        pad: pad sizes that are no multiple of the stride, at the right and at the bottom. Without
            it the remainder is dropped (ResNets in the original code, ViTs in SCLIP's). timm's
            towers always pad.
        readout: how a ViT's last block is read out.
        positions: how a ViT's position embeddings are resized, see `resize_positions`.
        proxy: network of a readout with the term 'proxy'. If this is the only term, the features
            are on the proxy's grid, which may be finer.
        refine: (N, C, H, W) cosines, (N, 3, H, W) normalised image -> (N, C, H, W). It refines the
            first pass of a readout with feedback. None for no refinement.

    Raises:
        UserError: an unsupported tower, a tower that cannot be read out this way, a readout
            without its proxy, or a proxy without its readout.
    """

    mean: Tensor
    std: Tensor

    @validated
    def __init__(
        self,
        visual: nn.Module,
        /,
        *,
        mean: RGB,
        std: RGB,
        project_keys: bool = False,
        pad: bool = True,
        readout: Readout = PRESETS['maskclip'],
        positions: PositionRule = 'size',
        proxy: ProxyViT | None = None,
        refine: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.tower: Any = build_tower(
            visual, project_keys=project_keys, readout=readout, positions=positions
        )
        if (proxy is not None) != ('proxy' in readout.terms):
            raise UserError(
                "a readout with the term 'proxy' needs a proxy, and no other has use for one; set "
                "backbone.readout='proxyclip' and backbone.proxy=dict(model=..., pretrained=...)"
            )
        self.readout, self.proxy, self.refine = readout, proxy, refine
        self.parts = 1  # cells of the output along a patch of the tower
        if proxy is not None and readout.terms == ('proxy',):
            self.parts = proxy.parts_of(self.tower.stride)
        self.pad = pad or self.tower.must_pad
        pixel_mean, pixel_std = channel_statistics(mean, std)
        self.register_buffer('mean', pixel_mean[None], persistent=False)
        self.register_buffer('std', pixel_std[None], persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of the output, in both directions."""
        return self.tower.stride // self.parts

    def train(self, mode: bool = True) -> 'CLIPDenseExtractor':
        """Stay in eval mode: the extractor is frozen."""
        return super().train(False)

    def forward(self, image: Tensor, score: Score | None = None) -> DenseFeatures:
        """Extract features: (N, 3, H, W) RGB in 0..255 -> h = ceil(H / stride), unpadded floor.

        Args:
            score: (N, D, h, w) -> (N, C, h, w) cosines with the text, for a readout with feedback.
                Without it there is only the first pass.
        """
        return self._dense(self.trunk(image), image, score)

    def forward_with_embedding(
        self, image: Tensor, score: Score | None = None
    ) -> tuple[DenseFeatures, Tensor]:
        """(N, 3, H, W) RGB in 0..255 -> DenseFeatures, (N, D) of `embed`, from one pass"""
        trunk = self.trunk(image)
        return self._dense(trunk, image, score), self._pool(trunk)

    def embed(self, image: Tensor) -> Tensor:
        """Compute CLIP's image embedding: (N, 3, H, W) RGB in 0..255 -> (N, D), unit norm.

        The tower's own size is `visual.image_size`, 224 x 224 for CLIP. Position embeddings are
        resized to any other.
        """
        size = self.tower.visual.image_size  # no multiple of the patch in SigLIP's 384 with 14
        is_native = tuple(image.shape[-2:]) == (size if isinstance(size, tuple) else (size, size))
        return self._pool(self.trunk(image, pad=self.pad and not is_native))

    def trunk(self, image: Tensor, *, pad: bool | None = None) -> Any:
        """(N, 3, H, W) RGB in 0..255 -> all before the last attention, as the tower has it

        Args:
            pad: overrides the extractor's `pad`.
        """
        if min(image.shape[-2:]) < self.tower.stride and not self.pad:
            raise UserError(
                f'an input of {image.shape[-1]} x {image.shape[-2]} pixels is smaller than a patch '
                f'of {self.tower.stride}; set backbone.pad=True'
            )
        image = self._normalise(image)
        pad = self.pad if pad is None else pad
        return self.tower.trunk(F.pad(image, self._padding(image)) if pad else image)

    def _dense(self, trunk: Any, image: Tensor, score: Score | None) -> DenseFeatures:
        guidance = NO_GUIDANCE if self.proxy is None else self._ask_proxy(image, trunk)
        features = DenseFeatures(*self.tower.dense(trunk, guidance))
        if self.readout.feedback is None or score is None:
            return features
        classes = patch_classes(
            score(features.patches),
            self._normalise(image),
            self.readout.feedback,
            stride=self.tower.stride,
            refine=self.refine,
        )
        return DenseFeatures(*self.tower.dense(trunk, guidance._replace(classes=classes)))

    def _ask_proxy(self, image: Tensor, trunk: Trunk) -> Guidance:
        """Compare the patches of the proxy; the padding has the proxy's mean colour."""
        assert self.proxy is not None
        centred = image.to(self.proxy.mean.dtype) - self.proxy.mean
        image = F.pad(centred, self._padding(image)) + self.proxy.mean
        grid = (trunk.grid[0] * self.parts, trunk.grid[1] * self.parts)
        return Guidance(self.proxy(image, grid), None if grid == trunk.grid else grid)

    def _normalise(self, image: Tensor) -> Tensor:
        return (image.to(self.mean.dtype) - self.mean) / self.std

    def _padding(self, image: Tensor) -> tuple[int, int, int, int]:
        """Compute F.pad's argument for whole patches; without `pad` it crops."""
        remainders = [side % self.tower.stride for side in image.shape[-2:]]
        rows, columns = (-n % self.tower.stride if self.pad else -n for n in remainders)
        return (0, columns, 0, rows)

    def _pool(self, trunk: Any) -> Tensor:
        return F.normalize(self.tower.pool(trunk), dim=-1)
