"""The result of segmenting one photo: labels, scores, pictures, files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from mmseg.errors import UserError
from mmseg.structures import ignore_label
from mmseg.utils import atomic_path, reason_of
from mmseg.utils.images import LABEL_PNG, encoded, label_image
from mmseg.visualization import blend, overlay_with_legend, shares_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Segmentation:
    """The classes of a photo's pixels.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        labels: (H, W) indices into `names`; 255 (or 65535 where that is a class) for none of them.
        scores: (C, h, w) float at the network's resolution.
        probability: (H, W) float32, of each pixel's class; where a threshold erased the label, of
            the class that it erased.
        names: (C) classes.
        palette: (C) RGB triples.
    """

    photo: np.ndarray
    labels: np.ndarray
    scores: Tensor
    probability: np.ndarray
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return {name: {'share': of the photo's pixels, 'confidence': mean probability there}}."""
        summary = {}
        for i, name in enumerate(self.names):
            mask = self.labels == i
            if mask.any():
                share, confidence = float(mask.mean()), float(self.probability[mask].mean())
                summary[name] = dict(share=round(share, 4), confidence=round(confidence, 4))
        return dict(sorted(summary.items(), key=lambda item: -item[1]['share']))

    def tinted(self) -> np.ndarray:
        """Tint the photo in the colours of its classes, (H, W, 3) uint8."""
        return blend(self.photo, self.labels, self.palette)

    def overlay(self) -> np.ndarray:
        """Draw the tinted photo and a legend, (H', W', 3) uint8."""
        return overlay_with_legend(self.photo, self.labels, self.names, self.palette)

    def label_image(self) -> Image.Image:
        """Return the labels as a PIL image, in the palette's colours for up to 255 classes."""
        return label_image(self.labels, self.palette)

    def save(self, path: str | Path) -> None:
        """Write the overlay (.png, .jpg ...)."""
        write_image(Image.fromarray(self.overlay()), path)

    def save_labels(self, path: str | Path) -> None:
        """Write the label PNG."""
        write_image(self.label_image(), path, **LABEL_PNG)

    def save_scores(self, path: str | Path) -> None:
        """Write `scores` (C, h, w) float16 and `names` as .npz."""
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary, scores=self.scores.half().numpy(), names=np.array(self.names)
            )

    def _repr_png_(self) -> bytes:
        """Return the overlay as PNG, for notebooks."""
        return encoded(Image.fromarray(self.overlay()), 'png')

    def __repr__(self) -> str:
        shares = shares_of(self.labels, len(self.names))
        most = sorted(shares, key=lambda i: -shares[i])[:4]
        listed = ', '.join(f'{self.names[i]} {100 * shares[i]:.0f} %' for i in most)
        height, width = self.labels.shape
        return f'Segmentation({width}x{height}: {listed or "nothing"})'


def erase_uncertain(
    labels: np.ndarray, probability: np.ndarray, threshold: float, num_classes: int
) -> np.ndarray:
    """Set (H, W) labels whose probability (H, W) is below the threshold to the ignored label."""
    if not threshold:
        return labels
    ignored = ignore_label(num_classes)
    dtype = labels.dtype if ignored == 255 else np.dtype(np.int32)
    return np.where(probability < threshold, ignored, labels).astype(dtype)


def write_image(image: 'Image.Image | Figure', path: str | Path, **options: Any) -> None:
    """Write a PIL image or a matplotlib figure, whole or not at all.

    Raises:
        UserError: an unknown suffix, or the disk refuses.
    """
    save = image.save if isinstance(image, Image.Image) else image.savefig
    with atomic_path(path) as temporary:
        try:
            save(temporary, **options)
        except ValueError as error:  # a suffix that the library does not know
            raise UserError(f'cannot write {path}: {reason_of(error)}') from error
