"""A loaded model that labels a stream of photos, batch by batch."""

from collections import defaultdict

import torch

from mmseg.apis.inference import above_threshold, classes_of, network_input, scale_of
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
        images = [image for image, _ in inputs]
        views = None if inputs[0][1] is None else [view for _, view in inputs]
        size, found = pairs[0][1].size[::-1], self.network.maps(images, views)
        return [
            (key, self._image(maps, size, image))
            for (key, _), maps, image in zip(pairs, found, images)
        ]

    def _image(self, maps, size, image):
        labels = self.network.labels(maps, size, image).cpu().numpy()
        if self.threshold:
            scores = self.network.on_grid(maps, image.shape[1:]).float()
            best = best_probability(scores, size, scale=scale_of(self.network))
            labels = above_threshold(labels, best, self.threshold, len(self.names))
        return label_image(labels, self.palette)
