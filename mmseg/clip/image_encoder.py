"""One face over every CLIP image tower: pixels in, features in text space out."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import channel_statistics

from .readout import NOTHING, PRESETS, Outside, patch_classes
from .towers import build_tower


class DenseFeatures(NamedTuple):
    """What a tower says of each patch.

    Attributes:
        patches: (N, D, h, w) in text space, not normalised.
        keys: (N, h*w, K) last-layer keys, not normalised.
    """

    patches: Tensor
    keys: Tensor


class CLIPDenseExtractor(nn.Module):
    """A frozen CLIP image tower that answers for every patch.

    By default the last attention acts as the identity (MaskCLIP, ECCV 2022, section 3.2): its value
    and output projections are applied to each place by itself, and what follows them in the tower
    follows here too. Of a ViT's last block, `readout` may ask otherwise.

    Args:
        visual: the `visual` of an open_clip model (ViT, ModifiedResNet or timm tower).
        mean, std: RGB, for values in 0..1; the extractor normalises by itself.
        project_keys: ViT keys go through the output projection (as in the original code, Q2).
        pad: extend sizes that are no multiple of the stride at the right and bottom; without it the
            remainder is dropped (ResNets in the original code, ViTs in SCLIP's). timm's towers
            always pad.
        readout: a Readout.
        positions: how a ViT's position embeddings reach other sizes, see `resize_positions`.
        proxy: the ProxyViT of a readout with the term 'proxy'. A finer one makes the grid finer
            where it is the only term.
        refine: (N, C, H, W) cosines, (N, 3, H, W) normalised -> (N, C, H, W), of a first answer
            for a readout with feedback; None for as they are.

    Raises:
        UserError: a tower of which no dense features are known, or none by that readout; a readout
            without its proxy, or a proxy without its readout.
    """

    def __init__(
        self,
        visual,
        *,
        mean,
        std,
        project_keys=False,
        pad=True,
        readout=PRESETS['maskclip'],
        positions='size',
        proxy=None,
        refine=None,
    ):
        super().__init__()
        self.tower = build_tower(
            visual, project_keys=project_keys, readout=readout, positions=positions
        )
        if (proxy is not None) != ('proxy' in readout.terms):
            raise UserError(
                "a readout with the term 'proxy' needs a proxy, and no other has use for one; set "
                "backbone.readout='proxyclip' and backbone.proxy=dict(model=..., pretrained=...)"
            )
        self.readout, self.proxy, self.refine = readout, proxy, refine
        finer = proxy is not None and readout.terms == ('proxy',)
        self.parts = proxy.parts_of(self.tower.stride) if finer else 1
        self.pad = pad or self.tower.must_pad
        mean, std = channel_statistics(mean, std)
        self.register_buffer('mean', mean[None], persistent=False)
        self.register_buffer('std', std[None], persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def stride(self):
        """Pixels of the input per patch of the answer, in either direction."""
        return self.tower.stride // self.parts

    def train(self, mode=True):
        """Frozen is structural: stays in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, image, score=None) -> DenseFeatures:
        """(N, 3, H, W) RGB in 0..255 -> DenseFeatures, h = ceil(H / stride) or, unpadded, floor.

        Args:
            score: (N, D, h, w) -> (N, C, h, w) cosines with the text, for a readout with feedback;
                without it the first answer is the answer.
        """
        return self._dense(self.trunk(image), image, score)

    def forward_with_embedding(self, image, score=None):
        """(N, 3, H, W) RGB in 0..255 -> DenseFeatures and (N, D) unit norm, from one pass."""
        trunk = self.trunk(image)
        return self._dense(trunk, image, score), self._pool(trunk)

    def embed(self, view) -> Tensor:
        """(N, 3, H, W) RGB in 0..255 -> (N, D) unit norm: CLIP's own image embedding.

        CLIP's view is 224 x 224; any other size resizes the position embeddings.
        """
        return self._pool(self.trunk(view))

    def trunk(self, image):
        """(N, 3, H, W) RGB in 0..255 -> all before the last attention, in the tower's form."""
        image = (image.to(self.mean.dtype) - self.mean) / self.std
        if min(image.shape[-2:]) < self.tower.stride and not self.pad:
            raise UserError(
                f'an input of {image.shape[-1]} x {image.shape[-2]} pixels is smaller than a patch '
                f'of {self.tower.stride}; set backbone.pad=True'
            )
        if self.pad:
            image = F.pad(image, self._padding(image))
        return self.tower.trunk(image)

    def _dense(self, trunk, image, score):
        if self.readout == PRESETS['maskclip']:
            return DenseFeatures(*self.tower.dense(trunk))
        outside = NOTHING if self.proxy is None else self._ask_proxy(image, trunk.grid)
        features = DenseFeatures(*self.tower.dense(trunk, outside))
        feedback = self.readout.feedback
        if feedback is None or score is None:
            return features
        seen = (image.to(self.mean.dtype) - self.mean) / self.std
        scores, cell = score(features.patches), self.tower.stride
        classes = patch_classes(scores, seen, feedback, cell=cell, refine=self.refine)
        outside = outside._replace(classes=classes)
        return DenseFeatures(*self.tower.dense(trunk, outside))

    def _ask_proxy(self, image, grid):
        """(N, 3, H, W) in 0..255, (h, w) of the tower -> Outside; padding has the proxy's mean"""
        rest = image.to(self.proxy.mean.dtype) - self.proxy.mean
        image = F.pad(rest, self._padding(image)) + self.proxy.mean
        fine = tuple(n * self.parts for n in grid)
        return Outside(self.proxy(image, fine), None if fine == grid else fine)

    def _padding(self, image):
        """-> what F.pad makes whole patches with: pixels added or, unpadded, cut off"""
        rest = [side % self.tower.stride for side in image.shape[-2:]]
        rows, columns = (-n % self.tower.stride if self.pad else -n for n in rest)
        return (0, columns, 0, rows)

    def _pool(self, trunk):
        return F.normalize(self.tower.pool(trunk), dim=-1)
