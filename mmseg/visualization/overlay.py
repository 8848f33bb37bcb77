"""Label maps as pictures: (H, W, 3) uint8 RGB in, the same out."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LINE = 22  # pixels a legend line is high
MARGIN = 8
INK, PAPER = (32, 32, 32), (255, 255, 255)


def blend(photo, labels, palette, *, opacity=0.55):
    """(H, W, 3), (H, W), C RGB triples -> (H, W, 3): tinted regions with outlines.

    Labels outside the palette (255: ignored) leave the photo as it is, only paler.
    """
    colours = np.full((max(256, len(palette) + 1, int(labels.max()) + 1), 3), 255, np.float32)
    colours[: len(palette)] = palette
    mixed = (1 - opacity) * photo + opacity * colours[labels]
    mixed[_outlines(labels)] = 255
    return mixed.round().astype(np.uint8)


def _outlines(labels):
    """(H, W) -> (H, W) bool: the right or the lower neighbour has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def legend(shares, names, palette, *, height):
    """{class: share in 0..1}, names, colours -> (height or more, w, 3), largest first."""
    font = ImageFont.load_default(13)
    lines = [
        (i, f'{names[i]}  {100 * share:.1f} %')
        for i, share in sorted(shares.items(), key=lambda item: -item[1])
    ]
    width = 3 * MARGIN + 14 + int(max((font.getlength(text) for _, text in lines), default=60)) + 1
    canvas = Image.new('RGB', (width, max(height, 2 * MARGIN + LINE * len(lines))), PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, (i, text) in enumerate(lines):
        top = MARGIN + row * LINE
        draw.rectangle([MARGIN, top, MARGIN + 14, top + 14], fill=tuple(palette[i]), outline=INK)
        draw.text((2 * MARGIN + 14, top), text, fill=INK, font=font)
    return np.asarray(canvas)


def shares_of(labels, num_classes):
    """(H, W) -> {class: share of the labelled pixels}, only classes that occur."""
    counts = np.bincount(labels.ravel(), minlength=256)[:num_classes]
    return {int(i): counts[i] / counts.sum() for i in np.flatnonzero(counts)}


def overlay_with_legend(photo, labels, names, palette):
    """(H, W, 3), (H, W) -> (H', W', 3): the tinted photo, and what the colours mean beside it."""
    side = legend(shares_of(labels, len(palette)), names, palette, height=len(photo))
    return beside([blend(photo, labels, palette), side])


def panels(photo, truth, prediction, names, palette):
    """(H, W, 3), (H, W), (H, W) -> (H', W', 3): photo | truth | prediction | legend."""
    seen = shares_of(prediction, len(palette))
    known = {i: seen.get(i, 0.0) for i in shares_of(truth, len(palette))} | seen
    side = legend(known, names, palette, height=len(photo))
    pictures = [photo, blend(photo, truth, palette), blend(photo, prediction, palette), side]
    titles = ['photo', 'truth', 'prediction', 'share in the prediction']
    return beside([_titled(picture, title) for picture, title in zip(pictures, titles)])


def _titled(picture, title):
    font = ImageFont.load_default(13)
    width = max(picture.shape[1], int(font.getlength(title)) + 2 * MARGIN)
    bar = Image.new('RGB', (width, LINE), PAPER)
    ImageDraw.Draw(bar).text((MARGIN, 3), title, fill=INK, font=font)
    return np.concatenate([np.asarray(bar), _fit(picture, picture.shape[0], width)], axis=0)


def beside(pictures):
    """(H_i, W_i, 3) -> (max H, sum W, 3)"""
    height = max(len(picture) for picture in pictures)
    fitted = [_fit(picture, height, picture.shape[1]) for picture in pictures]
    return np.concatenate(fitted, axis=1)


def _fit(picture, height, width):
    """Extend with paper to this size, at the bottom and right."""
    missing = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
    return np.pad(picture, missing, constant_values=255)


def contact_sheet(rows, titles, *, scale=1, gap=4):
    """Rows of (H, W, 3) pictures of one size, a title a column -> (H', W', 3)."""
    lines = []
    for i, row in enumerate(rows):
        pictures = [picture.repeat(scale, axis=0).repeat(scale, axis=1) for picture in row]
        height, width = pictures[0].shape[:2]
        framed = [_fit(picture, height + gap, width + gap) for picture in pictures]
        if i == 0:
            framed = [_titled(picture, title) for picture, title in zip(framed, titles)]
            widest = max(picture.shape[1] for picture in framed)
        lines.append(beside([_fit(p, p.shape[0], widest) for p in framed]))
    return np.concatenate(lines, axis=0)


def grid(cells, titles, *, columns, gap=6):
    """(H, W_i, 3) pictures, a title each, cut to its picture's width -> one picture (H', W', 3)."""
    font, widest = ImageFont.load_default(13), max(cell.shape[1] for cell in cells)
    lines = []
    for first in range(0, len(cells), columns):
        row = []
        for cell, title in zip(cells[first:][:columns], titles[first:][:columns]):
            while font.getlength(title) > widest - 2 * MARGIN:
                title = title[:-2].rstrip() + '\N{HORIZONTAL ELLIPSIS}'
            row.append(_fit(_titled(cell, title), len(cell) + LINE + gap, widest + gap))
        lines.append(beside(row))
    widest = max(line.shape[1] for line in lines)
    return np.concatenate([_fit(line, len(line), widest) for line in lines], axis=0)
