"""Pictures to learn from: scenes of the training split, painted once and kept in the work folder at the encoder's size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from tutti.media.image import resize
from tutti.models.qwen2_vl.media import fitted
from tutti.models.qwen2_vl.vision import patches

from .omni import LEAST_PIXELS, MOST_PIXELS
from .pictures import arrange, paint, random_look
from .scenes import Layout, Scene, Thing, random_scene
from .sight import CELL, PIXELS, Grid
from .values import Split, split_of
from .words import COLOURS, SHAPES

POOL = 4096
"""Pictures of a pool."""
_SIDES = (56, 84, 96, 112, 112, 128, 160)
_SHAPES = ((4, 3), (3, 4), (16, 9), (3, 2), (2, 3))
_OBLONG_SHARE = 0.3
NOTHING = -1


@dataclass(frozen=True, slots=True)
class Picture:
    """`pixels` uint8 [height, width, 3] at the encoder's size; `cells` int64 [rows * columns]: what stands in each, as
    colour * shapes + shape, or `NOTHING`."""

    scene: Scene
    pixels: Tensor
    cells: Tensor

    @property
    def grid(self) -> Grid:
        return self.pixels.shape[0] // CELL, self.pixels.shape[1] // CELL

    @property
    def patches(self) -> Tensor:
        """float32 [patches, values]"""
        return patches(self.pixels[None], PIXELS).values


def make_picture(rng: Random, scene: Scene, size: tuple[int, int] | None = None) -> Picture:
    """The scene in a random look; `size` in pixels, else any."""
    if size is None:
        side = rng.choice(_SIDES)
        across, down = rng.choice(_SHAPES) if rng.random() < _OBLONG_SHARE else (1, 1)
        size = (side * across // max(across, down), side * down // max(across, down))
    look = random_look(rng, scene, size)
    things = arrange(rng, scene, look)
    painted = np.asarray(paint(rng, things, look))
    height, width = fitted(*painted.shape[:2], CELL, LEAST_PIXELS, MOST_PIXELS)
    rows, columns = height // CELL, width // CELL
    cells = torch.full((rows, columns), NOTHING)
    cell_width, cell_height = size[0] / columns, size[1] / rows
    for placed in things:
        label = COLOURS.index(placed.thing.colour) * len(SHAPES) + SHAPES.index(placed.thing.shape)
        reach = placed.radius * 0.9
        for row in range(rows):
            for column in range(columns):
                dx = abs((column + 0.5) * cell_width - placed.x) / max(reach, cell_width / 2)
                dy = abs((row + 0.5) * cell_height - placed.y) / max(reach, cell_height / 2)
                if max(dx, dy) <= 1:
                    cells[row, column] = label
    return Picture(scene, torch.from_numpy(resize(painted, height, width).copy()), cells.flatten())


def draw_scene(rng: Random, split: Split) -> Scene:
    """A scene of the split."""
    while True:
        scene = random_scene(rng)
        if split_of(scene.key) == split:
            return scene


def training_pictures(work: Path, seed: int, number: int) -> list[Picture]:
    """One pool of the training split, from the work folder if it has been made before."""
    path = work / "pictures" / f"{seed}-{number}.pt"
    if path.exists():
        return [Picture(_scene(s), p, c) for s, p, c in torch.load(path, weights_only=True)]
    rng = Random(f"pico|{seed}|pictures|{number}")
    pool = [make_picture(rng, draw_scene(rng, "train")) for _ in range(POOL)]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save([(_values(p.scene), p.pixels, p.cells) for p in pool], partial)
    partial.replace(path)
    return pool


def groups(rng: Random, pool: Sequence[Picture], size: int) -> Iterator[list[Picture]]:
    """The pool in batches of pictures of one size, in random order; what does not fill a batch is left out."""
    by_grid: dict[Grid, list[Picture]] = {}
    for picture in rng.sample(pool, len(pool)):
        by_grid.setdefault(picture.grid, []).append(picture)
    batches = [same[i : i + size] for same in by_grid.values() for i in range(0, len(same) - size + 1, size)]
    rng.shuffle(batches)
    yield from batches


def _values(scene: Scene) -> tuple[str, list[tuple[int, int, int]]]:
    things = zip(scene.things, scene.places, strict=True)
    return scene.layout, [(COLOURS.index(t.colour), SHAPES.index(t.shape), p) for t, p in things]


def _scene(values: tuple[Layout, list[tuple[int, int, int]]]) -> Scene:
    layout, things = values
    return Scene(
        layout, tuple(Thing(COLOURS[c], SHAPES[s]) for c, s, _ in things), tuple(p for _, _, p in things)
    )
