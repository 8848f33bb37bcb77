"""Things of the miniature world: each maps arrays (x, y) to a signed distance, negative inside.

x points right and y down, both in units of the thing's radius.
"""

from collections.abc import Callable

import numpy as np


def circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.88


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) - 0.76


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(0.866 * abs(x) + 0.5 * y, -y) - 0.5


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along = np.arctan2(y, x) / (2 * np.pi / 5) % 1
    return np.hypot(x, y) - (0.42 + 0.6 * (2 * abs(along - 0.5)) ** 1.3)


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return abs(np.hypot(x, y) - 0.7) - 0.25


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.maximum(abs(u) - 0.3, abs(v) - 0.98)

    return np.minimum(bar(x, y), bar(y, x))


def heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, up = 1.15 * abs(x), 0.25 - 1.15 * y
    lobes = np.hypot(x - 0.5, up - 0.45) - 0.56
    tip = np.maximum(np.maximum(0.707 * (x - up) - 0.72, up - 0.5), -up - 1.2)
    return np.minimum(lobes, tip)


def moon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y) - 0.95, 0.78 - np.hypot(x - 0.5, y))


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    shape.__name__: shape for shape in (circle, square, triangle, star, ring, cross, heart, moon)
}
