"""A loaded model that labels a stream of photos, batch by batch."""

from collections import defaultdict

import torch

from mmseg.apis.inference import (
    above_threshold,
    classes_of,
    network_input,
    scale_of,
    with_background,
)
from mmseg.apis.result import best_probability, label_image


class Labeller:
    """Photos -> label PNGs of one model and one set of words.

    Args:
        model: a Segmenter.
        words: a Words.
        threshold: probability in 0..1 below which a pixel is of no class (255, or 65535).
        batch: photos of equal size that go through the network together.
    """

    def __init__(self, model, words, *, threshold=0.0, batch=8):
        self.model, self.words, self.network = model, words, model.network(words)
        self.names, self.palette = classes_of(words)
        self.threshold, self.batch = threshold, batch

    def stream(self, photos):
        """Yield (key, PIL label image) of (key, PIL photo) pairs, in the order of full batches.

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

    @torch.inference_mode()
    def label(self, pairs):
        """[(key, photo)] of one size -> [(key, label image)]"""
        inputs = [network_input(self.model, self.network, photo) for _, photo in pairs]
        views = None if inputs[0][1] is None else torch.stack([view for _, view in inputs])
        scores = self.network.scores(torch.stack([image for image, _ in inputs]), views).float()
        size, shape = pairs[0][1].size[::-1], tuple(inputs[0][0].shape[1:])
        return [(key, self._image(one, size, shape)) for (key, _), one in zip(pairs, scores)]

    def _image(self, scores, size, shape):
        scores = with_background(scores, self.words)
        labels = self.network.labels(scores, size, shape).cpu().numpy()
        if self.threshold:
            best = best_probability(scores, size, scale=scale_of(self.network))
            labels = above_threshold(labels, best, self.threshold, len(self.names))
        return label_image(labels, self.palette)
