"""Grounds of the miniature world: each (generator, size) -> (size, size, 3) float RGB in 0..255."""

from collections.abc import Callable

import cv2
import numpy as np

Generator = np.random.Generator
RGB = tuple[int, int, int]


def smooth(rng: Generator, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Draw smooth noise: (size, size) in about -1..1, with (rows, columns) waves over the side."""
    rows, columns = (size * (n + 3) // n + 1 for n in cells)
    grid = rng.uniform(-1, 1, (cells[0] + 3, cells[1] + 3)).astype(np.float32)
    whole = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
    y, x = (rng.integers(0, side - size + 1) for side in whole.shape)
    return whole[y : y + size, x : x + size]


def grain(rng: Generator, size: int) -> np.ndarray:
    """Draw independent noise: (size, size) in -1..1."""
    return rng.uniform(-1, 1, (size, size)).astype(np.float32)


def blend(first: RGB, second: RGB, share: np.ndarray) -> np.ndarray:
    """Mix two colours by the second's share (H, W), clipped to 0..1 -> (H, W, 3)."""
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray(first, np.float32) * (1 - share) + np.asarray(second, np.float32) * share


def over(image: np.ndarray, colour: RGB, cover: np.ndarray) -> np.ndarray:
    """Lay a colour over an image (H, W, 3) with opacity `cover` (H, W) in 0..1."""
    cover = cover[..., None]
    return image * (1 - cover) + np.asarray(colour, np.float32) * cover


def rows_of(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.float32)[:, None]


def sky(rng: Generator, size: int) -> np.ndarray:
    share = rows_of(size) / size + 0.1 * smooth(rng, size, (2, 2))
    clouds = 1.6 * (smooth(rng, size, (4, 2)) + 0.5 * smooth(rng, size, (9, 5))) - 0.2
    return over(blend((95, 150, 225), (190, 215, 240), share), (250, 250, 250), clouds.clip(0, 1))


def grass(rng: Generator, size: int) -> np.ndarray:
    blades = 0.3 * smooth(rng, size, (4, 24)) + 0.3 * smooth(rng, size, (10, 44))
    share = 0.5 + blades + 0.25 * smooth(rng, size, (2, 2))
    return blend((30, 85, 25), (125, 180, 60), share)


def sand(rng: Generator, size: int) -> np.ndarray:
    ripples = np.sin((rows_of(size) + 5 * smooth(rng, size, (3, 3))) * 0.75)
    return blend((190, 155, 100), (240, 215, 165), 0.5 + 0.22 * ripples + 0.35 * grain(rng, size))


def water(rng: Generator, size: int) -> np.ndarray:
    waves = np.sin((rows_of(size) + 4 * smooth(rng, size, (6, 5))) * 1.1)
    share = 0.42 + 0.3 * smooth(rng, size, (16, 4)) + 0.2 * waves
    image = blend((15, 70, 115), (70, 160, 190), share)
    glints = 6 * (smooth(rng, size, (22, 7)) - 0.62)
    return over(image, (235, 235, 235), glints.clip(0, 1))


def brick(rng: Generator, size: int) -> np.ndarray:
    height, width = rng.integers(7, 10), rng.integers(14, 20)
    y, x = np.mgrid[:size, :size] + rng.integers(0, (height, width))[:, None, None]
    row = y // height
    x = x + (row % 2) * (width // 2)
    column = x // width
    tints = rng.uniform(0, 1, (row.max() + 1, column.max() + 1)).astype(np.float32)
    image = blend((125, 50, 38), (185, 90, 65), tints[row, column] + 0.25 * grain(rng, size))
    image[(y % height < 2) | (x % width < 2)] = (175, 165, 155)
    return image


def wood(rng: Generator, size: int) -> np.ndarray:
    width = rng.integers(16, 24)
    x = np.arange(size)[None, :].repeat(size, axis=0) + rng.integers(0, width)
    tint = rng.uniform(-0.2, 0.2, x.max() // width + 1).astype(np.float32)[x // width]
    lines = np.sin((x + 2.5 * smooth(rng, size, (2, 8))) * 1.5 + 5 * tint)
    image = blend(
        (85, 50, 25), (185, 130, 80), 0.5 + tint + 0.25 * lines + 0.15 * smooth(rng, size, (3, 30))
    )
    image[x % width < 1] *= 0.45
    return image


TEXTURES: dict[str, Callable[[Generator, int], np.ndarray]] = dict(
    sky=sky, grass=grass, sand=sand, water=water, brick=brick, wood=wood
)
