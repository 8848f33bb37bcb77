"""Label maps as pictures: (H, W, 3) uint8 RGB in, the same out."""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .fonts import legible, size_for
from .sheet import INK, PAPER, beside, margin_of, titled

DISPLAYED = 240  # pixels that a picture's short side has at least: small photos are enlarged
NAMED = 0.02  # share of the photo from which on a region may hold its name
LISTED = 40  # classes in a legend
SLAB = 256  # rows that are mixed at a time: a large photo is never held in floats


def blend(photo, labels, palette, *, opacity=0.55):
    """(H, W, 3), (H, W), C RGB triples -> (H, W, 3): tinted regions with outlines.

    Labels outside the palette (255: ignored) leave the photo as it is, only paler.
    """
    colours = np.full((max(256, len(palette) + 1, int(labels.max()) + 1), 3), 255, np.float32)
    colours[: len(palette)] = palette
    mixed = np.empty(photo.shape, np.uint8)
    for top in range(0, len(photo), SLAB):
        rows = slice(top, top + SLAB)
        mixed[rows] = ((1 - opacity) * photo[rows] + opacity * colours[labels[rows]]).round()
    mixed[_outlines(labels)] = 255
    return mixed


def _outlines(labels):
    """(H, W) -> (H, W) bool: a neighbour has another label; as wide as the picture is large."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    width = round(min(labels.shape) / 500)
    if width > 1:
        edge = cv2.dilate(edge.astype(np.uint8), np.ones((width, width), np.uint8)) > 0
    return edge


def shares_of(labels, num_classes):
    """(H, W) -> {class: share of the labelled pixels}, only classes that occur."""
    counts = np.bincount(labels.ravel(), minlength=256)[:num_classes]
    return {int(i): counts[i] / counts.sum() for i in np.flatnonzero(counts)}


def with_names(picture, labels, names):
    """(H, W, 3), (H, W) -> (H, W, 3): each class's name in its largest region, where it fits."""
    image, size = Image.fromarray(picture), size_for(*labels.shape)
    draw = ImageDraw.Draw(image)
    for i, share in shares_of(labels, len(names)).items():
        if share < NAMED:
            continue
        text, font = legible(names[i], size)
        left, top, right, bottom = font.getbbox(text, stroke_width=2)
        place = _inside(labels == i, right - left, bottom - top)
        if place is not None:
            at = place[0] - left, place[1] - top
            halo = dict(stroke_width=max(2, size // 8), stroke_fill=PAPER)
            draw.text(at, text, fill=INK, font=font, **halo)
    return np.asarray(image)


def _inside(region, width, height):
    """(H, W) bool, a text's size -> (x, y) of its corner where it lies in the region, or None."""
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


def legend(shares, names, palette, *, height, size=None):
    """{class: share in 0..1}, names, colours -> (height or more, w, 3), largest first.

    Args:
        size: pixels of the letters; None for what fits the height.
    """
    size = size or size_for(height, height)
    line, margin, box = round(1.7 * size), margin_of(size), size
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    rows = [(i, *legible(f'{names[i]}  {100 * share:.1f} %', size)) for i, share in ordered]
    if len(rows) > LISTED:
        rows[LISTED:] = [(None, *legible(f'and {len(rows) - LISTED} more', size))]
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


def overlay_with_legend(photo, labels, names, palette):
    """(H, W, 3), (H, W) -> (H', W', 3): the tinted, named photo, and what the colours mean."""
    photo, labels = enlarged(photo), enlarged(labels)
    side = legend(
        shares_of(labels, len(palette)), names, palette, height=len(photo), size=size_of(photo)
    )
    return beside([with_names(blend(photo, labels, palette), labels, names), side])


def panels(photo, truth, prediction, names, palette):
    """(H, W, 3), (H, W), (H, W) -> (H', W', 3): photo | truth | prediction | legend."""
    photo, truth, prediction = (enlarged(part) for part in (photo, truth, prediction))
    seen = shares_of(prediction, len(palette))
    known = {i: seen.get(i, 0.0) for i in shares_of(truth, len(palette))} | seen
    side = legend(known, names, palette, height=len(photo), size=size_of(photo))
    maps = [with_names(blend(photo, m, palette), m, names) for m in (truth, prediction)]
    titles = ['photo', 'truth', 'prediction', 'share in the prediction']
    pictures = zip([photo, *maps, side], titles)
    return beside([titled(picture, title, size_of(photo)) for picture, title in pictures])


def size_of(photo):
    """(H, W, ...) -> pixels of its letters"""
    return size_for(*photo.shape[:2])


def enlarged(picture):
    """(H, W, ...) -> the same, or each pixel as a square where the picture is small."""
    factor = max(1, DISPLAYED // min(picture.shape[:2]))
    factor = min(factor, max(1, 2000 // max(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
