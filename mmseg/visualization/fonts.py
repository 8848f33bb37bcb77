"""Choose letters for pictures: a size that fits, and a font that has the glyphs."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

MIN_SIZE = 13


def size_for(height: int, width: int) -> int:
    """Return the pixels of letters for a picture of this size."""
    return max(MIN_SIZE, round(0.034 * min(height, width)))


def legible(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Find a font for a text; return the text in code points if no installed font has it."""
    default = _default_font()
    for path in (default, *_system_fonts()):
        if all(ord(letter) in _code_points(path) for letter in text):
            return text, _font(path, size)
    return text.encode('ascii', 'backslashreplace').decode(), _font(default, size)


@lru_cache(maxsize=64)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=256)
def _code_points(path: str) -> frozenset[int]:
    """Return the code points of a font file; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@lru_cache(maxsize=1)
def _default_font() -> str:
    """Return matplotlib's DejaVu Sans, which covers Latin, Greek, Cyrillic and Arabic."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'))


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts

    return tuple(sorted(findSystemFonts()))
