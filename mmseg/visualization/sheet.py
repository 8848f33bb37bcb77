"""Combine pictures, each (H, W, 3) uint8 RGB."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .fonts import MIN_SIZE, legible

INK, PAPER = (32, 32, 32), (255, 255, 255)
GAP = 4  # pixels between pictures


def margin_of(size: int) -> int:
    """Return the margin around letters of this size, in pixels."""
    return round(0.6 * size)


def titled(picture: np.ndarray, title: str, size: int = MIN_SIZE) -> np.ndarray:
    """Put a title above a picture: (H, W, 3) -> (H + a line, W or more, 3)."""
    text, font = legible(title, size)
    width = max(picture.shape[1], int(font.getlength(text)) + 2 * margin_of(size))
    bar = Image.new('RGB', (width, round(1.7 * size)), PAPER)
    ImageDraw.Draw(bar).text((margin_of(size), size // 5), text, fill=INK, font=font)
    return np.concatenate([np.asarray(bar), fit(picture, picture.shape[0], width)], axis=0)


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures side by side: (H_i, W_i, 3) -> (max H, sum W, 3)."""
    height = max(len(picture) for picture in pictures)
    fitted = [fit(picture, height, picture.shape[1]) for picture in pictures]
    return np.concatenate(fitted, axis=1)


def fit(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad with white at the bottom and right: -> (height, width, 3)."""
    missing = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
    return np.pad(picture, missing, constant_values=255)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Arrange rows of equally large pictures under one title per column -> (H', W', 3)."""
    lines: list[np.ndarray] = []
    for i, row in enumerate(rows):
        height, width = row[0].shape[:2]
        framed = [fit(picture, height + GAP, width + GAP) for picture in row]
        if i == 0:
            framed = [titled(picture, title) for picture, title in zip(framed, titles)]
            widest = max(picture.shape[1] for picture in framed)
        lines.append(beside([fit(p, p.shape[0], widest) for p in framed]))
    return np.concatenate(lines, axis=0)


def grid(cells: Sequence[np.ndarray], titles: Sequence[str], *, columns: int) -> np.ndarray:
    """Arrange (H, W_i, 3) pictures in a grid, each under its shortened title -> (H', W', 3)."""
    widest = max(cell.shape[1] for cell in cells)
    lines = []
    for first in range(0, len(cells), columns):
        row = []
        for cell, title in zip(cells[first:][:columns], titles[first:][:columns]):
            framed = titled(cell, shortened(title, widest))
            row.append(fit(framed, len(framed) + GAP, widest + GAP))
        lines.append(beside(row))
    widest = max(line.shape[1] for line in lines)
    return np.concatenate([fit(line, len(line), widest) for line in lines], axis=0)


def shortened(title: str, width: int) -> str:
    """Cut a title to what fits into `width` pixels."""
    text, font = legible(title, MIN_SIZE)
    while len(text) > 1 and font.getlength(text) > width - 2 * margin_of(MIN_SIZE):
        text = text[:-2].rstrip() + '\N{HORIZONTAL ELLIPSIS}'
    return text
