"""A loaded model that labels a stream of photos, batch by batch."""

import dataclasses
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from mmseg.apis.inference import above_threshold, classes_of, network_input
from mmseg.apis.result import label_image
from mmseg.datasets.reading import read_photo
from mmseg.errors import UserError
from mmseg.models.postprocess import checksum, require_finite_scores
from mmseg.models.resize import photo_matrices

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
            raise UserError('labels of several views are not post-processed: leave out model.post')

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
        if self.one_view:
            found = self.network.query_logits(images, views)
        else:
            found = mean_probabilities(
                self.network, images, views, scales=self.scales, flip=self.flip
            )
        size = pairs[0][1].size[::-1]
        return [
            (key, self._labelled(maps, size, image))
            for (key, _), maps, image in zip(pairs, found, images)
        ]

    def _labelled(self, maps, size, image):
        """(Q, m, n) of the network or (C, h, w) mean probabilities, (H, W), input -> Labelled"""
        answer = self._of_network if self.one_view else self._of_views
        labels, best = (x if x is None else x.cpu().numpy() for x in answer(maps, size, image))
        require_finite_scores(checksum(maps))
        if self.threshold:
            labels = above_threshold(labels, best, self.threshold, len(self.names))
        confidence = None
        if self.confidence:
            confidence = Image.fromarray(np.rint(255 * best.clip(0, 1)).astype(np.uint8))
        return Labelled(label_image(labels, self.palette), confidence)

    def _of_network(self, maps, size, image):
        """-> (H, W) labels, and their probability where it is asked for, or None"""
        if self.threshold or self.confidence:
            return self.network.labels_and_confidence(maps, size, image)
        return self.network.labels(maps, size, image), None

    def _of_views(self, probabilities, size, image):
        """The same, of (C, h, w)"""
        rule = dataclasses.replace(self.network.scoring, groups=None, scale=None)
        across = photo_matrices(probabilities, size, input_size=tuple(image.shape[1:]), stride=None)
        labels = rule.labels(probabilities, *across)
        return labels, rule.confidence(labels, probabilities, *across)
