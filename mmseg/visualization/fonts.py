"""Letters on pictures: a size that fits the picture, a font that has the glyphs."""

from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

OWN = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'  # Latin to Arabic
LEAST = 13


def size_for(height, width):
    """Pixels of a picture -> pixels of its letters"""
    return max(LEAST, round(0.034 * min(height, width)))


def legible(text, size):
    """Text -> (text, PIL font) that shows it; what no font here has is spelt in code points."""
    for path in (OWN, *_others()):
        if all(ord(letter) in _glyphs(path) for letter in text):
            return text, _font(path, size)
    spelt = text.encode('ascii', 'backslashreplace').decode()
    return spelt, _font(OWN, size)


@lru_cache(maxsize=64)
def _font(path, size):
    return ImageFont.truetype(str(path), size)


@lru_cache(maxsize=256)
def _glyphs(path):
    """A font file -> code points that it has; none for a file that cannot be read"""
    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@lru_cache(maxsize=1)
def _others():
    return tuple(sorted(findSystemFonts()))
