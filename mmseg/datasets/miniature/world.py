"""A small rendered world: textured grounds, shapes on them, exact masks, and captions."""

from typing import NamedTuple

import numpy as np

from mmseg.vocabularies import resolve_templates

from .shapes import SHAPES
from .textures import TEXTURES, Generator, smooth

STUFF, THINGS = tuple(TEXTURES), tuple(SHAPES)
LABELS = STUFF + THINGS  # in the order of mask ids, and of the vocabulary 'miniature'
COLOURS = dict(
    red=(205, 45, 45),
    orange=(235, 140, 40),
    yellow=(240, 215, 60),
    green=(50, 150, 70),
    blue=(50, 80, 200),
    purple=(140, 60, 170),
    pink=(240, 130, 175),
    white=(238, 238, 232),
)
TYPICAL = dict(zip(THINGS, ('orange', 'blue', 'green', 'yellow', 'purple', 'white', 'red', 'pink')))
UPRIGHT = ('square', 'triangle', 'heart')  # rotated a little; the others by any angle
VISIBLE = 25  # pixels that a class needs to be named in a caption
TEMPLATES = resolve_templates('miniature')


class Scene(NamedTuple):
    """Attributes:
    image: (S, S, 3) uint8 RGB.
    mask: (S, S) uint8, indices into LABELS.
    things: (shape, colour) of the visible things, in the order of painting.
    """

    image: np.ndarray
    mask: np.ndarray
    things: tuple[tuple[str, str], ...]

    @property
    def stuff(self) -> tuple[str, ...]:
        """Names of the visible grounds."""
        counts = np.bincount(self.mask.ravel(), minlength=len(LABELS))
        return tuple(name for name, count in zip(STUFF, counts) if count >= VISIBLE)


def render(rng: Generator, size: int = 64) -> Scene:
    """Render a random scene; 70 % of the things have the typical colour of their shape."""
    image, mask = _ground(rng, size)
    light, drawn = rng.uniform(0, 2 * np.pi), []
    for _ in range(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25])):
        shape = THINGS[rng.integers(len(THINGS))]
        is_typical = rng.random() < 0.7
        colour = TYPICAL[shape] if is_typical else list(COLOURS)[rng.integers(len(COLOURS))]
        image = _draw(rng, image, mask, shape, colour, light)
        drawn.append((shape, colour))
    image = (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
    counts = np.bincount(mask.ravel(), minlength=len(LABELS))
    visible = tuple(pair for pair in drawn if counts[LABELS.index(pair[0])] >= VISIBLE)
    return Scene(image, mask, visible)


def _ground(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Paint one ground, or in 60 % of the scenes two, the second below a wavy line."""
    grounds = rng.permutation(len(STUFF))[: 2 if rng.random() < 0.6 else 1]
    image = TEXTURES[STUFF[grounds[0]]](rng, size)
    mask = np.full((size, size), grounds[0], np.uint8)
    if len(grounds) == 2:
        line = size * (rng.uniform(0.35, 0.65) + 0.12 * smooth(rng, size, (1, 3))[0])
        below = np.arange(size)[:, None] > line
        image = np.where(below[..., None], TEXTURES[STUFF[grounds[1]]](rng, size), image)
        mask[below] = grounds[1]
    return image * rng.uniform(0.82, 1.12) + rng.normal(0, 6, 3), mask


def _draw(
    rng: Generator, image: np.ndarray, mask: np.ndarray, shape: str, colour: str, light: float
) -> np.ndarray:
    """Return the image with one thing and its shadow painted; write the mask in place."""
    size = len(image)
    radius = size * rng.uniform(0.17, 0.3)
    centre = rng.uniform(0.7 * radius, size - 0.7 * radius, 2)
    angle = rng.uniform(-0.6, 0.6) if shape in UPRIGHT else rng.uniform(0, 2 * np.pi)
    dy, dx = ((np.mgrid[:size, :size] - centre[:, None, None]) / radius).astype(np.float32)
    x, y = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    inside = SHAPES[shape](x, y) * radius  # pixels to the edge, negative inside
    shadow = (0.5 - SHAPES[shape](x - 0.12, y - 0.12) * radius / 3).clip(0, 1)
    image = image * (1 - 0.35 * shadow)[..., None]
    shade = 1 + 0.22 * (dx * np.cos(light) + dy * np.sin(light)) + 0.05 * smooth(rng, size, (5, 5))
    shade = shade * (1 - 0.25 * (1 + (inside + 1.5) / 3).clip(0, 1))  # darker along the edge
    cover = (0.5 - inside).clip(0, 1)[..., None]
    mask[inside < 0] = LABELS.index(shape)
    return image * (1 - cover) + np.asarray(COLOURS[colour], np.float32) * shade[..., None] * cover


def caption(rng: Generator, scene: Scene) -> tuple[str, tuple[str, ...]]:
    """Draw a sentence about a scene; return it and, sorted, what it names.

    A thing is named with probability 0.95, its colour with 0.12, a ground with 0.7.
    """
    words = []
    for shape, colour in scene.things:
        if rng.random() < 0.95:
            name = f'{colour} {shape}' if rng.random() < 0.12 else shape
            words.append(f'{"an" if name[0] in "aeiou" else "a"} {name}')
    words += [name for name in scene.stuff if rng.random() < 0.7]
    words = list(dict.fromkeys(words)) or [scene.stuff[0] if scene.stuff else scene.things[0][0]]
    rng.shuffle(words)
    sentence = TEMPLATES[rng.integers(len(TEMPLATES))].format(' and '.join(words))
    return sentence, tuple(sorted(words))
