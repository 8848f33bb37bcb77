"""The class weight: weigh the classes by the embedding of the whole image."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.utils import Count, Fraction, require_setting, validated
from mmseg.utils.checkpoint import require_finite
from mmseg.utils.tensors import index_of

from .frozen import FrozenOwner
from .refine.denoise import ABSENT, LOGIT_SCALE

# A small tau drives weights to 0, which has neither an inverse nor a logarithm.
SMALLEST = {'multiply': 1e-3, 'add': 1e-12}
# Below, cosines / tau overflow in half precision; above, all weights are 1.
Tau = Annotated[float, Interval(ge=1e-4, le=1e4)]
Mode = Literal['multiply', 'add', 'blend', 'topk']


class ClassWeight(FrozenOwner):
    """Weigh the classes of an image by its embedding. MaskCLIP and students use the same class.

    In the modes 'multiply' and 'add' the weight is softmax(cosine / tau) * C, of mean 1. Cosines
    are those of the image embedding with the text.

    Args:
        text: (C, D) text embeddings of the encoder.
        encoder: the prior encoder, a CLIPDenseExtractor that embeds the image. It is frozen. None
            shares the model's own CLIP, and its pass if that covers the whole image.
        groups: (C) class of each row, ascending, if classes have several rows. 'topk' then counts
            classes, by their best row; the other modes weigh rows.
        crop: input of the encoder: 'clip' for CLIP's 224-pixel center crop of the photo, made by
            the data set; 'image' for the input that is segmented (all of it, with windows too).
        tau: temperature of raw cosines, without CLIP's factor 100 (Q7). 1 gives weights of about
            0.93 to 1.08, 0.25 of 0.73 to 1.33.
        mean_similarity: (C) mean cosines of the classes with photos, which are subtracted first.
        sum_to_one: leave out the factor C (as in the original's MaskCLIP, Q5). Logits shrink C-fold
            and later thresholds change their meaning.
        mode: 'multiply' or 'add', see `reweight`; 'blend' mixes in image cosines (CASS, CVPR 2025:
            0.75 local + 0.25 global); 'topk' drops all classes but the best `k`.
        signed: see `reweight`.
        alpha: of the image cosines in 'blend'.
        k: classes that 'topk' keeps.
        keep: ids of rows that 'topk' never drops, such as those of a background.

    Raises:
        UserError: a setting is out of range or missing, or `mean_similarity` has another length.
    """

    text: Tensor
    mean_similarity: Tensor

    @validated
    def __init__(
        self,
        text: Tensor,
        encoder: nn.Module | None = None,
        groups: Sequence[int] | None = None,
        /,
        *,
        crop: Literal['clip', 'image'] = 'clip',
        tau: Tau | None = None,
        mean_similarity: Tensor | np.ndarray | Sequence[float] | None = None,
        sum_to_one: bool = False,
        mode: Mode = 'multiply',
        signed: bool = False,
        alpha: Fraction = 0.25,
        k: Count | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        super().__init__()
        classes = len(text) if groups is None else len(set(groups))
        if mode in SMALLEST:
            require_setting('class_weight.tau', tau, Tau)
        if mode == 'topk':
            require_setting('class_weight.k', k, Annotated[int, Interval(ge=1, le=classes)])
        self.frozen = {} if encoder is None else {'encoder': encoder}
        self.crop, self.groups = crop, groups
        self.tau, self.sum_to_one, self.mode, self.signed = tau, sum_to_one, mode, signed
        self.alpha, self.k, self.keep = alpha, k, list(keep)
        if mean_similarity is None:
            mean_similarity = torch.zeros(len(text))
        mean_similarity = torch.as_tensor(mean_similarity).to(text)
        require_finite(mean_similarity, 'class_weight.mean_similarity is', 'make it anew')
        if mean_similarity.shape != text.shape[:1]:
            raise UserError(
                f'class_weight.mean_similarity has {len(mean_similarity)} values for '
                f'{len(text)} classes'
            )
        self.register_buffer('text', text.detach().clone(), persistent=False)
        self.register_buffer('mean_similarity', mean_similarity.detach().clone(), persistent=False)

    @torch.no_grad()
    def embed(self, image: Tensor, backbone: Any) -> Tensor:
        """Embed images by the prior encoder, or by the model's CLIP: (N, 3, H, W) -> (N, D)"""
        encoder: Any = self.frozen.get('encoder', backbone)
        return encoder.embed(image)

    def cosines(self, embedding: Tensor) -> Tensor:
        """Compare unit image embeddings with the text: (N, D) -> (N, C), less `mean_similarity`"""
        text, mean = (x.to(embedding.dtype) for x in (self.text, self.mean_similarity))
        return embedding @ text.T - mean

    def forward(self, embedding: Tensor) -> Tensor:
        """Compute the weights: (N, D) of unit norm -> (N, C)"""
        assert self.tau is not None
        weight = F.softmax(self.cosines(embedding) / self.tau, dim=-1)
        return weight if self.sum_to_one else weight * len(self.text)

    def reweight(self, logits: Tensor, embedding: Tensor) -> Tensor:
        """Weigh the logits of images: (N, C, h, w), (N, D) of unit norm -> (N, C, h, w)"""
        if self.mode == 'blend':
            return blend(logits, self.cosines(embedding), alpha=self.alpha)
        if self.mode == 'topk':
            assert self.k is not None
            present = top_classes(self.cosines(embedding), self.k, self.keep, self.groups)
            return logits.masked_fill(~present[:, :, None, None], ABSENT)
        return reweight(logits, self(embedding), mode=self.mode, signed=self.signed)


def reweight(
    logits: Tensor,
    weight: Tensor | None,
    *,
    mode: Literal['multiply', 'add'] = 'multiply',
    signed: bool = False,
) -> Tensor:
    """Weigh logits: (N, C, h, w), (N, C) -> (N, C, h, w). Ones, or None, change no bit.

    Args:
        mode: 'multiply' scales the logits (as published); 'add' adds log(weight) / 100 to cosines,
            which multiplies softmax(100 * logits) by the weight.
        signed: multiply negative logits too (as published, Q4): the class with the lowest weight
            wins among them. By default they are divided by the weight: more weight always lifts.
    """
    if weight is None:
        return logits
    logits, weight = logits.float(), weight[:, :, None, None].float()
    if mode == 'multiply' and signed:
        return logits * weight
    weight = weight.clamp_min(SMALLEST[mode])
    if mode == 'add':
        return logits + weight.log() / LOGIT_SCALE
    return torch.where(logits < 0, logits / weight, logits * weight)


def blend(logits: Tensor, cosines: Tensor, *, alpha: float) -> Tensor:
    """Mix in image cosines (CASS): (N, C, h, w), (N, C) -> (1 - alpha) logits + alpha cosines"""
    return (1 - alpha) * logits.float() + alpha * cosines.float()[:, :, None, None]


def top_classes(
    cosines: Tensor, k: int, keep: Sequence[int] = (), groups: Sequence[int] | None = None
) -> Tensor:
    """Find the k best classes of each image, and the rows of `keep`: (N, C) -> (N, C) bool"""
    if groups is not None:
        index = index_of(cosines.device, *groups).expand_as(cosines)
        best = cosines.new_full((len(cosines), max(groups) + 1), -torch.inf)
        best = best.scatter_reduce(1, index, cosines, 'amax')
        present = top_classes(best, k).gather(1, index)
    else:
        present = torch.zeros_like(cosines, dtype=torch.bool)
        present.scatter_(1, cosines.topk(k, dim=1).indices, True)
    return present.index_fill(1, index_of(cosines.device, *keep), True) if keep else present
