from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from mmseg.errors import UserError
from mmseg.structures import SegDataSample

from .class_weight import ClassWeight
from .postprocess import Scoring
from .resize import Windows, mean_on_grid, photo_matrices, resize, tiled_logits


class Segmentor(BaseModel):
    """Label photos of any size, at their size. A subclass adds `window_logits`.

    Args:
        class_weight: a ClassWeight on the logits, or None.
        score_stride: pixels of the input per cell of the logits; None if the grid spans the input.
        resize_twice: resize logits to the input's size, then to the photo's (the original's, Q15).
        windows: Windows, or None for the whole input at once.
        scoring: a Scoring; the default makes each query a class, without thresholds.
        post: modules that refine at the photo's size, first logits (`acts_on` = 'scores'), then
            'labels'.
    """

    backbone: nn.Module
    loss_pixels: Any = None  # that the last loss averages over, see `count_pixels`

    def __init__(
        self,
        class_weight: ClassWeight | None = None,
        /,
        *,
        score_stride: int | None = None,
        resize_twice: bool = False,
        windows: Windows | None = None,
        scoring: Scoring | None = None,
        post: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__(data_preprocessor=BaseDataPreprocessor(non_blocking=True))
        self.class_weight = class_weight
        self.score_stride, self.resize_twice = score_stride, resize_twice
        self.windows = self.check_windows(windows)
        self.scoring = scoring or Scoring(scale=1.0)
        self.post = nn.ModuleList(post)

    @property
    def prior_crop(self) -> Literal['clip', 'image'] | None:
        """Name the input of the class weight, see `ClassWeight`; None without one."""
        return None if self.class_weight is None else self.class_weight.crop

    def check_windows(self, windows: Windows | None) -> Windows | None:
        """Return the windows, or raise a UserError if they are smaller than a patch."""
        patch = self.score_stride or 1
        if windows is not None and windows.size < patch:
            raise UserError(
                f'windows.size is {windows.size} pixels, less than a patch of {patch}; use windows '
                f'of at least {patch}, such as 224'
            )
        return windows

    # From photos to labels

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: list[SegDataSample] | None = None,
        mode: str = 'tensor',
        **context: Any,
    ) -> Any:
        """Run the model on a batch: [(3, H, W) uint8] of any sizes, and their samples.

        Args:
            mode: 'loss' returns {name: loss}, 'tensor' class logits [(C, h, w)], 'predict' the
                samples with `seg_logits` (C, h, w) and `pred_sem_seg` (H, W) at the photo's size.
            context: keyword arguments of `loss`, such as the training step.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples or [], **context)
        logits = self.query_logits(inputs, self.stacked_crops(data_samples or ()))
        grids = [self.to_input_grid(x, image.shape[1:]) for x, image in zip(logits, inputs)]
        if mode == 'tensor':
            return grids
        for sample, query_logits, grid, image in zip(data_samples or (), logits, grids, inputs):
            sample.seg_logits = grid
            sample.pred_sem_seg = self.labels(query_logits, sample.ori_shape, image)
        return data_samples

    def query_logits(
        self,
        images: Sequence[Tensor],
        prior_crop: Tensor | None = None,
        windows: Windows | None = None,
    ) -> list[Tensor]:
        """Compute per-query logits: [(3, H, W)], (N, 3, S, S) or None -> [(Q, m, n)]

        They lie on the grid of the input, or of all its windows side by side. `to_input_grid` and
        `labels` read them. Inputs of one shape share a pass, windows of one shape too; no result
        depends on the batch.

        Args:
            prior_crop: for a class weight with the crop 'clip'.
            windows: None for those of the model.

        Raises:
            UserError: windows smaller than a patch.
        """
        windows = self.check_windows(windows or self.windows)
        embeddings = self.image_embeddings(images, prior_crop, windows)
        refine = partial(self.refine, one_photo=True)
        return tiled_logits(self.window_logits, refine, images, embeddings, windows)

    def stacked_crops(self, samples: Sequence[SegDataSample]) -> Tensor | None:
        """Stack the crops for the class weight: -> (N, 3, S, S), or None"""
        if self.prior_crop != 'clip':
            return None
        return torch.stack([sample.prior_crop for sample in samples])

    def batch_logits(self, image: Tensor, prior_crop: Tensor | None = None) -> Tensor:
        """Compute per-query logits of a batch of whole inputs: (N, 3, H, W) -> (N, Q, h, w)

        Args:
            prior_crop: (N, 3, S, S) for a class weight with the crop 'clip'.
        """
        return self.refine(*self.window_logits(image, self.embed(prior_crop)))

    def embed(self, prior_crop: Tensor | None) -> Tensor | None:
        """Embed crops for the class weight: (N, 3, S, S) -> (N, D), or None"""
        if self.class_weight is None or self.prior_crop != 'clip':
            return None
        if prior_crop is None:
            raise ValueError("the class weight needs the photos' prior crops")
        return self.class_weight.embed(prior_crop, self.backbone)

    def scores(self, image: Tensor, prior_crop: Tensor | None = None) -> Tensor:
        """Compute class logits as `batch_logits`: (N, 3, H, W) -> (N, C, h, w)"""
        return self.scoring.by_class(self.batch_logits(image, prior_crop))

    def image_embeddings(
        self, images: Sequence[Tensor], prior_crop: Tensor | None, windows: Windows | None
    ) -> Tensor | None:
        """Embed photos for the class weight: -> (N, D), each shared by its windows.

        None without a class weight, and for the crop 'image' without windows, which the pass
        of the network embeds.
        """
        if self.prior_crop == 'clip':
            return self.embed(prior_crop)
        if self.class_weight is None or windows is None:
            return None
        return torch.cat([self.class_weight.embed(x[None], self.backbone) for x in images])

    def window_logits(
        self, image: Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the network on inputs of one shape: (N, 3, H, W) -> (N, Q, h, w), keys for `refine`

        Args:
            embedding: (N, D) for the class weight; None makes it from the input itself.
        """
        raise NotImplementedError

    def refine(self, logits: Tensor, keys: Tensor | None, *, one_photo: bool = False) -> Tensor:
        """Refine what `window_logits` returned: (N, Q, h, w) -> (N, Q, h, w)

        Args:
            one_photo: the N inputs are the windows of one photo.
        """
        return logits

    def loss(
        self, images: Sequence[Tensor], samples: Sequence[SegDataSample], *, step: int
    ) -> dict[str, Tensor]:
        """Compute the losses of a training step: [(3, H, W) uint8], samples -> {name: ()}"""
        raise NotImplementedError(f'{type(self).__name__} has nothing to train')

    # From per-query logits to labels

    def to_input_grid(
        self, logits: Tensor, input_size: Sequence[int], windows: Windows | None = None
    ) -> Tensor:
        """Average windows, take the best query: (Q, m, n) -> (C, h, w) on the input's grid"""
        windows = windows or self.windows
        if windows is not None:
            logits = mean_on_grid(
                logits, input_size=input_size, stride=self.score_stride, windows=windows
            )
        return self.scoring.by_class(logits)

    def labels(
        self,
        logits: Tensor,
        photo_size: Sequence[int],
        image: Tensor,
        windows: Windows | None = None,
    ) -> Tensor:
        """Label a photo: (Q, m, n) of `query_logits` -> (H, W), post-processed.

        Args:
            photo_size: (H, W).
            image: (3, H, W), the input.
            windows: of the logits; None for those of the model.
        """
        return self._label(logits, photo_size, image, windows)[0]

    def labels_and_confidence(
        self,
        logits: Tensor,
        photo_size: Sequence[int],
        image: Tensor,
        windows: Windows | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `labels`, with the probability of each label: -> (H, W), (H, W) float32

        The probability is that of the final label, after thresholds and superpixels, and comes from
        the logits after PAMR.
        """
        labels, *photo_logits = self._label(logits, photo_size, image, windows)
        return labels, self.scoring.confidence(labels, *photo_logits)

    def _label(
        self, logits: Tensor, photo_size: Sequence[int], image: Tensor, windows: Windows | None
    ) -> tuple[Tensor, ...]:
        """-> (H, W) labels, the logits, and the matrices to the photo unless PAMR resized"""
        matrices = photo_matrices(
            logits,
            photo_size,
            input_size=image.shape[1:],
            stride=self.score_stride,
            twice=self.resize_twice,
            windows=windows or self.windows,
        )
        photo_logits = logits, *matrices
        for part in self.post:
            if part.acts_on == 'scores':
                guide = _resized(self.normalised(image), photo_size)
                photo_logits = (part(resize(*photo_logits)[None], guide)[0],)
        labels = self.scoring.labels(*photo_logits)
        for part in self.post:
            if part.acts_on == 'labels':
                labels = part(labels, _resized(image, photo_size)[0])
        return labels, *photo_logits

    def normalised(self, image: Tensor) -> Tensor:
        """Normalise a photo as PAMR reads it: (3, H, W) in 0..255 -> (3, H, W)"""
        return image.float() / 255


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """(3, h, w), (H, W) -> (1, 3, H, W) float"""
    return F.interpolate(image[None].float(), tuple(size), mode='bilinear', align_corners=False)
