"""A loaded model that labels a stream of photos, batch by batch."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from mmseg.apis.inference import above_threshold, classes_of, network_input, scale_of
from mmseg.apis.result import best_probability, label_image
from mmseg.datasets.transforms.loading import read_photo
from mmseg.errors import UserError
from mmseg.models import labels_at_photo_size

from .views import mean_probabilities


class Labelled(NamedTuple):
    """A label image, and where asked a grey one: 255 where the label is certain."""

    labels: Image.Image
    confidence: Image.Image | None = None


class Labeller:
    """Photos -> label PNGs of one model and one set of words.

    Args:
        model: a Segmenter.
        words: a Words.
        threshold: probability in 0..1 below which a pixel is of no class (255, or 65535).
        batch: photos of equal size that go through the network together.
        scales, flip: see `mean_probabilities`; (1.0,) without mirror images is the network's own.
        confidence: also give the probability of each label.
        read: path -> PIL RGB image.
    """

    def __init__(
        self,
        model,
        words,
        *,
        threshold=0.0,
        batch=8,
        scales=(1.0,),
        flip=False,
        confidence=False,
        read=read_photo,
    ):
        self.scales, self.flip, self.confidence, self.read = tuple(scales), flip, confidence, read
        self.model, self.words, self.network = model, words, model.network(words)
        self.names, self.palette = classes_of(words)
        self.threshold, self.batch = threshold, batch
        if self.network.post and not self.one_view:
            raise UserError(
                'several scales and mirror images give mean probabilities, which model.post does '
                'not refine; leave one of the two out'
            )

    def stream(self, photos):
        """Yield (key, Labelled) of (key, PIL photo) pairs, in the order of full batches.

        Photos wait until a batch of their size is full; no more than four batches wait.
        """
        waiting = defaultdict(list)
        for key, photo in photos:
            sized = waiting[photo.size]
            sized.append((key, photo))
            if len(sized) == self.batch:
                yield from self.label(waiting.pop(photo.size))
            elif sum(map(len, waiting.values())) >= 4 * self.batch:
                fullest = max(waiting, key=lambda size: len(waiting[size]))
                yield from self.label(waiting.pop(fullest))
        for group in waiting.values():
            yield from self.label(group)

    @property
    def one_view(self):
        """Each photo is seen once, as the network sees it."""
        return self.scales == (1.0,) and not self.flip

    @torch.inference_mode()
    def label(self, pairs):
        """[(key, photo)] of one size -> [(key, Labelled)]"""
        inputs = [network_input(self.model, self.network, photo) for _, photo in pairs]
        images = [image for image, _ in inputs]
        views = None if inputs[0][1] is None else [view for _, view in inputs]
        size, shape = pairs[0][1].size[::-1], tuple(images[0].shape[1:])
        if self.one_view:
            found = self.network.maps(images, views)
            labelled = [self._one_view(maps, size, image) for maps, image in zip(found, images)]
        else:
            found = mean_probabilities(
                self.network, torch.stack(images), views, scales=self.scales, flip=self.flip
            )
            labelled = [self._many_views(one, size, shape) for one in found]
        return [(key, one) for (key, _), one in zip(pairs, labelled)]

    def _one_view(self, maps, size, image):
        """(Q, m, n) of `Segmentor.maps` -> Labelled"""
        labels = self.network.labels(maps, size, image)
        scores = self.network.on_grid(maps, image.shape[1:]).float()
        return self._labelled(labels, scores, size, scale_of(self.network))

    def _many_views(self, probabilities, size, shape):
        """(C, h, w) over the whole input -> Labelled"""
        labels = labels_at_photo_size(probabilities, size, input_size=shape, stride=None)
        return self._labelled(labels, probabilities, size, None)

    def _labelled(self, labels, scores, size, scale):
        labels, confidence = labels.cpu().numpy(), None
        if self.threshold or self.confidence:
            best = best_probability(scores, size, scale=scale)
            labels = above_threshold(labels, best, self.threshold, len(self.names))
        if self.confidence:
            confidence = Image.fromarray(np.rint(255 * best.clip(0, 1)).astype(np.uint8))
        return Labelled(label_image(labels, self.palette), confidence)
