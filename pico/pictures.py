"""Scenes as pictures: coloured shapes on a plain background, drawn smoothly, each time a little differently.

The same `Scene` that the text world tells is drawn here, so that its questions, its answers and what is held out apply to
pictures too. A row lies across the middle and a column down the middle; the named spots are the quarters and the centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from .scenes import Scene, Thing
from .words import COLOURS, SHAPES

RGB: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30), "blue": (30, 70, 220), "green": (20, 150, 50), "yellow": (250, 220, 30), "orange": (250, 135, 20),
    "purple": (135, 40, 165), "black": (15, 15, 15), "white": (250, 250, 250),
}  # fmt: skip
_SPOTS = ((0.23, 0.23), (0.77, 0.23), (0.5, 0.5), (0.23, 0.77), (0.77, 0.77))
_LINE = (0.19, 0.5, 0.81)
_SMOOTH = 3
"""Pictures are drawn so many times larger and then reduced."""


@dataclass(frozen=True, slots=True)
class Look:
    """What may differ between two pictures of a scene: sizes are fractions of the picture's shorter side."""

    size: tuple[int, int]
    background: tuple[int, int, int]
    radius: float
    jitter: float
    outline: tuple[int, int, int] | None
    noise: float


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing in a picture: the pixels of its centre and about its half height."""

    thing: Thing
    x: float
    y: float
    radius: float


PLAIN = Look((112, 112), (225, 225, 225), 0.13, 0.0, None, 0.0)


DRAWN = 64
"""Pixels of the side of a picture that pico draws."""


def drawn_look(rng: Random) -> Look:
    """A look of what pico draws itself: a grey on which white and black both show, and nothing beside the shapes."""
    shade = rng.randint(190, 212)
    return Look((DRAWN, DRAWN), (shade, shade, shade), rng.uniform(0.125, 0.14), 0.02, None, 0.0)


def random_look(rng: Random, scene: Scene, size: tuple[int, int] | None = None) -> Look:
    """A look in which everything of the scene can be seen; `size` in pixels, else any."""
    colours = {thing.colour.en for thing in scene.things}
    side = rng.choice((56, 84, 96, 112, 160, 224))
    shade = rng.randint(120, 215)
    tint = tuple(min(255, max(0, shade + rng.randint(-14, 14))) for _ in range(3))
    background = (
        (255, 255, 255) if "white" not in colours and rng.random() < 0.4 else (tint[0], tint[1], tint[2])
    )
    outline = None
    if rng.random() < 0.2:
        outline = (60, 60, 60) if "black" not in colours else (235, 235, 235)
    crowded = scene.layout != "spots" and len(scene.things) == 3
    return Look(
        size or (side, side), background, rng.uniform(0.09, 0.13 if crowded else 0.15), 0.04, outline, rng.choice((0.0, 0.0, 2.0, 6.0))
    )  # fmt: skip


def arrange(rng: Random, scene: Scene, look: Look) -> tuple[Placed, ...]:
    """Where each thing of the scene stands, in pixels."""
    width, height = look.size
    placed = []
    for thing, place in zip(scene.things, scene.places, strict=True):
        x, y = (v + rng.uniform(-look.jitter, look.jitter) for v in _centre(scene, place))
        radius = look.radius * min(look.size) * rng.uniform(0.85, 1.1)
        placed.append(Placed(thing, x * width, y * height, radius))
    return tuple(placed)


def paint(rng: Random, things: Sequence[Placed], look: Look) -> Image.Image:
    """The things as an RGB picture of `look.size`."""
    image = Image.new("RGB", (look.size[0] * _SMOOTH, look.size[1] * _SMOOTH), look.background)
    pen = ImageDraw.Draw(image)
    for placed in things:
        x, y, radius = (v * _SMOOTH for v in (placed.x, placed.y, placed.radius))
        outline = _outline(
            placed.thing.shape.en, x, y, radius, rng.uniform(-0.15, 0.15) if look.jitter else 0.0
        )
        pen.polygon(outline, fill=_shade(rng, RGB[placed.thing.colour.en], look))
        if look.outline is not None:
            pen.line([*outline, outline[0]], fill=look.outline, width=_SMOOTH)
    small = image.resize(look.size, Image.Resampling.BOX)
    if not look.noise:
        return small
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, look.noise, (*look.size[::-1], 3))
    return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))


def draw(rng: Random, scene: Scene, look: Look) -> Image.Image:
    """The scene as an RGB picture of `look.size`."""
    return paint(rng, arrange(rng, scene, look), look)


def _centre(scene: Scene, place: int) -> tuple[float, float]:
    if scene.layout == "row":
        return _LINE[place], 0.5
    if scene.layout == "column":
        return 0.5, _LINE[place]
    return _SPOTS[place]


def _shade(rng: Random, rgb: tuple[int, int, int], look: Look) -> tuple[int, int, int]:
    spread = 12 if look.jitter else 0
    red, green, blue = (min(255, max(0, v + rng.randint(-spread, spread))) for v in rgb)
    return red, green, blue


def _outline(shape: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape of about the same area for all, turned by `turn` radians."""
    points = _CORNERS[shape]
    cos, sin = math.cos(turn), math.sin(turn)
    return [(x + radius * (a * cos - b * sin), y + radius * (a * sin + b * cos)) for a, b in points]


def _regular(count: int, radius: float, start: float) -> list[tuple[float, float]]:
    angles = [start + 2 * math.pi * i / count for i in range(count)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5, 1.25, -math.pi / 2), _regular(5, 0.5, -math.pi / 2 + math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        across = 16 * math.sin(t) ** 3
        down = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((across / 15, down / 15))
    return points


_CORNERS: dict[str, list[tuple[float, float]]] = {
    "circle": _regular(60, 1.0, 0.0),
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0.0, -1.15), (1.15, 0.9), (-1.15, 0.9)],
    "star": _star(),
    "heart": _heart(),
    "diamond": [(0.0, -1.3), (0.9, 0.0), (0.0, 1.3), (-0.9, 0.0)],
}
assert set(_CORNERS) == {s.en for s in SHAPES} and set(RGB) == {c.en for c in COLOURS}
