"""One face over every CLIP image tower: pixels in, features in text space out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """A frozen CLIP image tower that answers for every patch (MaskCLIP, ECCV 2022, section 3.2).

    The last attention acts as the identity: its value and output projections are applied to each
    place by itself, and what follows them in the tower follows here too.

    Args:
        visual: the `visual` of an open_clip model (ViT, ModifiedResNet or timm tower).
        mean, std: RGB, for values in 0..1; the extractor normalises by itself.
        project_keys: ViT keys go through the output projection (as in the original code, Q2).
        pad: extend sizes that are no multiple of the stride at the right and bottom. ViTs need it;
            a ResNet without it drops the remainder (as in the original code).

    Raises:
        UserError: a tower of which no dense features are known.
    """

    def __init__(self, visual, *, mean, std, project_keys=False, pad=True):
        super().__init__()
        self.tower = build_tower(visual, project_keys=project_keys)
        self.pad = pad or self.tower.must_pad
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def stride(self):
        """Pixels of the input per patch, in either direction."""
        return self.tower.stride

    def train(self, mode=True):
        """Frozen is structural: stays in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, image) -> DenseFeatures:
        """(N, 3, H, W) RGB in 0..255 -> DenseFeatures, h = ceil(H / stride) or, unpadded, floor."""
        return DenseFeatures(*self.tower.dense(self.trunk(image)))

    def forward_with_embedding(self, image):
        """(N, 3, H, W) RGB in 0..255 -> DenseFeatures and (N, D) unit norm, from one pass."""
        trunk = self.trunk(image)
        return DenseFeatures(*self.tower.dense(trunk)), self._pool(trunk)

    def embed(self, view) -> Tensor:
        """(N, 3, H, W) RGB in 0..255 -> (N, D) unit norm: CLIP's own image embedding.

        CLIP's view is 224 x 224; any other size resizes the position embeddings.
        """
        return self._pool(self.trunk(view))

    def trunk(self, image):
        """(N, 3, H, W) RGB in 0..255 -> all before the last attention, in the tower's form."""
        image = (image.to(self.mean.dtype) - self.mean) / self.std
        if self.pad:
            height, width = image.shape[-2:]
            image = F.pad(image, (0, -width % self.stride, 0, -height % self.stride))
        return self.tower.trunk(image)

    def _pool(self, trunk):
        return F.normalize(self.tower.pool(trunk), dim=-1)
