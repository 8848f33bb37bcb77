"""Draw label maps on photos, each (H, W, 3) uint8 RGB."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .fonts import legible, size_for
from .sheet import INK, PAPER, beside, margin_of, titled

MIN_SIDE = 240  # pixels; smaller photos are enlarged
MAX_ENLARGED = 2000  # pixels of the long side, beyond which a photo is not enlarged
NAMED_SHARE = 0.02  # share of the photo that a class needs to be named in the picture
MAX_LISTED = 40  # classes in a legend
ROW_CHUNK = 256  # rows blended at once: a large photo is never held in floats

Palette = Sequence[tuple[int, int, int]]


def blend(
    photo: np.ndarray, labels: np.ndarray, palette: Palette, *, opacity: float = 0.55
) -> np.ndarray:
    """Tint and outline regions: (H, W, 3), (H, W), C RGB triples -> (H, W, 3).

    Labels outside the palette (255: ignored) only make the photo paler.
    """
    colours = np.full((max(256, len(palette) + 1, int(labels.max()) + 1), 3), 255, np.float32)
    colours[: len(palette)] = palette
    mixed = np.empty(photo.shape, np.uint8)
    for top in range(0, len(photo), ROW_CHUNK):
        rows = slice(top, top + ROW_CHUNK)
        mixed[rows] = ((1 - opacity) * photo[rows] + opacity * colours[labels[rows]]).round()
    mixed[_outlines(labels)] = 255
    return mixed


def _outlines(labels: np.ndarray) -> np.ndarray:
    """Mark pixels beside another label, (H, W) -> (H, W) bool; lines widen with the picture."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    width = round(min(labels.shape) / 500)
    if width > 1:
        edge = cv2.dilate(edge.astype(np.uint8), np.ones((width, width), np.uint8)) > 0
    return edge


def shares_of(labels: np.ndarray, num_classes: int) -> dict[int, float]:
    """Map each class that occurs in labels (H, W) to its share of the labelled pixels."""
    counts = np.bincount(labels.ravel(), minlength=256)[:num_classes]
    return {int(i): float(counts[i] / counts.sum()) for i in np.flatnonzero(counts)}


def with_names(picture: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Write each class's name into its largest region, where it fits: -> (H, W, 3)."""
    image, size = Image.fromarray(picture), size_for(*labels.shape)
    draw, written = ImageDraw.Draw(image), np.zeros(labels.shape, bool)
    for i, share in shares_of(labels, len(names)).items():
        if share < NAMED_SHARE:
            continue
        text, font = legible(names[i], size)
        left, top, right, bottom = font.getbbox(text, stroke_width=2)
        width, height = round(right - left), round(bottom - top)
        corner = _inside(labels == i, width, height)
        if corner is None:
            continue
        box = np.s_[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
        if not written[box].any():  # names of neighbours do not overlap
            written[box] = True
            place, stroke = (corner[0] - left, corner[1] - top), max(2, size // 8)
            draw.text(place, text, INK, font, stroke_width=stroke, stroke_fill=PAPER)
    return np.asarray(image)


def _inside(region: np.ndarray, width: int, height: int) -> tuple[int, int] | None:
    """Find (x, y) of the corner of a box that lies in a region (H, W) bool; None if none fits."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=4)
    part = 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    inside = np.pad((parts == part).astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    left, top = round(x - width / 2), round(y - height / 2)
    covered = region[max(top, 0) : top + height, max(left, 0) : left + width]
    if left < 0 or top < 0 or covered.shape != (height, width) or covered.mean() < 0.9:
        return None
    return left, top


def legend(
    shares: Mapping[int, float],
    names: Sequence[str],
    palette: Palette,
    *,
    height: int,
    size: int | None = None,
) -> np.ndarray:
    """Draw a legend, largest class first: -> (height or more, W, 3).

    Args:
        shares: class -> share in 0..1.
        size: pixels of the letters; None for what fits the height.
    """
    size = size or size_for(height, height)
    line, margin, box = round(1.7 * size), margin_of(size), size
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    rows: list[tuple[int | None, str, ImageFont.FreeTypeFont]]
    rows = [(i, *legible(f'{names[i]}  {100 * share:.1f} %', size)) for i, share in ordered]
    if len(rows) > MAX_LISTED:
        rows[MAX_LISTED:] = [(None, *legible(f'and {len(rows) - MAX_LISTED} more', size))]
    widest = max((font.getlength(text) for _, text, font in rows), default=4 * size)
    width = 3 * margin + box + int(widest) + 1
    canvas = Image.new('RGB', (width, max(height, 2 * margin + line * len(rows))), PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, (i, text, font) in enumerate(rows):
        top = margin + row * line
        if i is not None:
            corners = [margin, top, margin + box, top + box]
            draw.rectangle(corners, fill=tuple(palette[i]), outline=INK)
        draw.text((2 * margin + box, top), text, fill=INK, font=font)
    return np.asarray(canvas)


def overlay_with_legend(
    photo: np.ndarray, labels: np.ndarray, names: Sequence[str], palette: Palette
) -> np.ndarray:
    """Draw the tinted photo with names, and a legend: (H, W, 3), (H, W) -> (H', W', 3)."""
    photo, labels = enlarged(photo), enlarged(labels)
    shares = shares_of(labels, len(palette))
    side = legend(shares, names, palette, height=len(photo), size=size_for(*labels.shape))
    return beside([with_names(blend(photo, labels, palette), labels, names), side])


def panels(
    photo: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    palette: Palette,
) -> np.ndarray:
    """Draw photo | truth | prediction | legend: (H, W, 3), (H, W), (H, W) -> (H', W', 3)."""
    photo, truth, prediction = (enlarged(part) for part in (photo, truth, prediction))
    shares = shares_of(prediction, len(palette))
    shares = {i: 0.0 for i in shares_of(truth, len(palette))} | shares
    size = size_for(*truth.shape)
    side = legend(shares, names, palette, height=len(photo), size=size)
    tinted = [with_names(blend(photo, m, palette), m, names) for m in (truth, prediction)]
    titles = ['photo', 'truth', 'prediction', 'share in the prediction']
    pictures = zip([photo, *tinted, side], titles)
    return beside([titled(picture, title, size) for picture, title in pictures])


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Repeat the pixels of a small picture (H, W, ...) by a whole factor; keep a large one."""
    factor = max(1, MIN_SIDE // min(picture.shape[:2]))
    factor = min(factor, max(1, MAX_ENLARGED // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
