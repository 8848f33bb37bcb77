"""A loaded model that labels a stream of photos, batch by batch."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmseg.apis.inference import Segmenter
from mmseg.apis.result import erase_uncertain
from mmseg.apis.words import Words
from mmseg.datasets.reading import read_photo
from mmseg.errors import UserError
from mmseg.models.postprocess import checksum, require_finite_scores
from mmseg.models.resize import CELL as WINDOW_CELL
from mmseg.models.resize import photo_matrices, resize
from mmseg.utils.images import label_image

CELL = 4  # pixels of the input per cell of the mean over views
Key = TypeVar('Key')


class Labelled(NamedTuple):
    """A label image, and on request a grey image of confidence: 255 is certain."""

    labels: Image.Image
    confidence: Image.Image | None = None


class Labeller:
    """Label photos by one model and one set of words.

    Args:
        model: a Segmenter.
        words: the classes.
        threshold: probability in 0..1 below which a pixel is of no class (255, or 65535).
        batch: photos of equal size that go through the network together.
        scales, flip: see `mean_probabilities`; (1.0,) without mirror images is the network's own.
        confidence: also return the probability of each label.
        read: reads a path as a PIL RGB image.

    Raises:
        UserError: post-processing and more than one view.
    """

    def __init__(
        self,
        model: Segmenter,
        words: Words,
        *,
        threshold: float = 0.0,
        batch: int = 8,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        confidence: bool = False,
        read: Callable[..., Image.Image] = read_photo,
    ) -> None:
        self.scales, self.flip, self.confidence, self.read = tuple(scales), flip, confidence, read
        self.model, self.words, self.network = model, words, model.network(words)
        self.names, self.palette = words.classes()
        self.threshold, self.batch = threshold, batch
        self.one_view = self.scales == (1.0,) and not flip
        if self.network.post and not self.one_view:
            raise UserError('labels of several views are not post-processed: leave out model.post')

    def stream(self, photos: Iterable[tuple[Key, Image.Image]]) -> Iterator[tuple[Key, Labelled]]:
        """Yield (key, Labelled) of (key, PIL photo) pairs, in the order of full batches.

        Photos wait until a batch of their size is full; no more than four batches wait.
        """
        waiting: dict[tuple[int, int], list[tuple[Key, Image.Image]]] = defaultdict(list)
        for key, photo in photos:
            group = waiting[photo.size]
            group.append((key, photo))
            if len(group) == self.batch:
                yield from self.label(waiting.pop(photo.size))
            elif sum(len(group) for group in waiting.values()) >= 4 * self.batch:
                fullest = max(waiting, key=lambda size: len(waiting[size]))
                yield from self.label(waiting.pop(fullest))
        for group in waiting.values():
            yield from self.label(group)

    @torch.inference_mode()
    def label(self, pairs: Sequence[tuple[Key, Image.Image]]) -> list[tuple[Key, Labelled]]:
        """Label (key, photo) pairs of one size."""
        inputs = [self.model.network_input(self.network, photo) for _, photo in pairs]
        images = [image for image, _ in inputs]
        crops = [crop for _, crop in inputs if crop is not None]
        prior_crop = torch.cat(crops) if crops else None
        if self.one_view:
            outputs = self.network.query_logits(images, prior_crop)
        else:
            outputs = mean_probabilities(
                self.network, images, prior_crop, scales=self.scales, flip=self.flip
            )
        width, height = pairs[0][1].size
        return [
            (key, self._labelled(output, (height, width), image))
            for (key, _), output, image in zip(pairs, outputs, images)
        ]

    def _labelled(self, output: Tensor, size: tuple[int, int], image: Tensor) -> Labelled:
        """Label a photo from (Q, m, n) query logits, or from (C, h, w) mean probabilities."""
        best = None
        if not self.one_view:
            scoring = dataclasses.replace(self.network.scoring, groups=None, scale=None)
            matrices = photo_matrices(output, size, input_size=tuple(image.shape[1:]), stride=None)
            labels = scoring.labels(output, *matrices)
            best = scoring.confidence(labels, output, *matrices)
        elif self.threshold or self.confidence:
            labels, best = self.network.labels_and_confidence(output, size, image)
        else:
            labels = self.network.labels(output, size, image)
        require_finite_scores(checksum(output))
        final, grey = labels.cpu().numpy(), None
        if best is not None:
            probability = best.cpu().numpy()
            final = erase_uncertain(final, probability, self.threshold, len(self.names))
            if self.confidence:
                grey = Image.fromarray(np.rint(255 * probability.clip(0, 1)).astype(np.uint8))
        return Labelled(label_image(final, self.palette), grey)


def mean_probabilities(
    network: Any,
    images: Sequence[Tensor],
    prior_crop: Tensor | None = None,
    *,
    scales: Sequence[float],
    flip: bool,
) -> Tensor:
    """Average a network's probabilities over scales and mirror images.

    Args:
        network: a Segmentor.
        images: (3, H, W) each, RGB in 0..255.
        prior_crop: (N, 3, S, S), input of the class weight, the same for all scales.
        scales: multiples of the input's size.
        flip: also average over the mirror image at each scale.

    Returns:
        (N, C, H / 4, W / 4) over the input.
    """
    batch = torch.stack(list(images))
    height, width = batch.shape[2:]
    grid = (-(-height // CELL), -(-width // CELL))
    total, count = torch.zeros((), device=batch.device), 0
    for scale in scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = batch
        if size != (height, width):
            scaled = F.interpolate(batch, size, mode='bilinear', antialias=True)
        total, count = total + _probabilities(network, scaled, prior_crop, grid), count + 1
        if flip:
            mirrored = _probabilities(network, scaled.flip(3), prior_crop, grid)
            total, count = total + mirrored.flip(3), count + 1
    return total / count


def _probabilities(
    network: Any, images: Tensor, prior_crop: Tensor | None, grid: tuple[int, int]
) -> Tensor:
    """Return (N, C, *grid) over the input without its padding."""
    height, width = images.shape[2:]
    stride = network.score_stride or (WINDOW_CELL if network.windows else None)
    probabilities = []
    for logits in network.query_logits(list(images), prior_crop):
        scores = network.to_input_grid(logits, (height, width)).float()
        if network.scoring.scale is not None:  # else they are probabilities already
            scores = (scores * network.scoring.scale).softmax(dim=0)
        matrices = photo_matrices(scores, grid, input_size=(height, width), stride=stride)
        probabilities.append(resize(scores, *matrices))
    return torch.stack(probabilities)
