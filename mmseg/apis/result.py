"""What was found in a photo: labels, scores, pictures, files."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmseg.errors import UserError
from mmseg.utils import atomic_path
from mmseg.visualization import blend, overlay_with_legend, shares_of


@dataclass(frozen=True)
class Segmentation:
    """Attributes:
    photo: (H, W, 3) uint8 RGB.
    labels: (H, W) places in `names`; 255 (or 65535 where that is a class) for none of them.
    scores: (C, h, w) float tensor at the network's resolution.
    probability: (H, W) float32, of each pixel's class; where `labels` says none, of the class that
        a threshold took from the pixel.
    names: (C) classes.
    palette: (C) RGB triples.
    """

    photo: np.ndarray
    labels: np.ndarray
    scores: object
    probability: np.ndarray
    names: tuple
    palette: tuple

    def summary(self):
        """-> {name: {'share': of the photo's pixels, 'confidence': mean probability there}}"""
        found = {}
        for i, name in enumerate(self.names):
            here = self.labels == i
            if here.any():
                share, sure = here.mean(), self.probability[here].mean()
                found[name] = dict(share=round(float(share), 4), confidence=round(float(sure), 4))
        return dict(sorted(found.items(), key=lambda item: -item[1]['share']))

    def tinted(self):
        """-> (H, W, 3) uint8: the photo in the colours of its classes"""
        return blend(self.photo, self.labels, self.palette)

    def overlay(self):
        """-> (H', W', 3) uint8: the tinted photo and a legend"""
        return overlay_with_legend(self.photo, self.labels, self.names, self.palette)

    def label_image(self):
        """-> a PIL image of the labels, in the palette's colours where there are up to 255"""
        return label_image(self.labels, self.palette)

    def save(self, path):
        """Write the overlay (.png, .jpg ...)."""
        write_image(Image.fromarray(self.overlay()), path)

    def save_labels(self, path):
        """Write the label PNG."""
        write_image(self.label_image(), path)

    def save_scores(self, path):
        """Write `scores` (C, h, w) float16 and `names` as .npz."""
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary, scores=self.scores.half().numpy(), names=np.array(self.names)
            )

    def _repr_png_(self):
        """For notebooks."""
        buffer = io.BytesIO()
        Image.fromarray(self.overlay()).save(buffer, format='png')
        return buffer.getvalue()

    def __repr__(self):
        shares = shares_of(self.labels, len(self.names))
        most = sorted(shares, key=lambda i: -shares[i])[:4]
        found = ', '.join(f'{self.names[i]} {100 * shares[i]:.0f} %' for i in most)
        height, width = self.labels.shape
        return f'Segmentation({width}x{height}: {found or "nothing"})'


def label_image(labels, palette):
    """(H, W), (C) RGB -> a PIL image with a palette, or of 16 bits for more than 255 classes"""
    if labels.dtype != np.uint8:
        return Image.fromarray(labels.astype(np.uint16))
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    image = Image.fromarray(labels)
    image.putpalette(colours.tobytes())
    return image


def write_image(image, path):
    """Write beside and rename.

    Raises:
        UserError: an unknown suffix, or the disk refuses.
    """
    with atomic_path(path) as temporary:
        try:
            image.save(temporary)
        except ValueError as error:  # a suffix that Pillow does not know
            raise UserError(f'cannot write {path}: {error}') from error
