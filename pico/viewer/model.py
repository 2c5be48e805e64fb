"""The viewer's network: convolutions over a picture, and for each of nine places which colour and which shape is there.

The places of a row, of a column and the named spots are a grid of three by three with the middle in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pico.scenes import Layout, Scene
from pico.words import COLOURS, SHAPES

PLACES: dict[Layout, tuple[int, ...]] = {"row": (3, 4, 5), "column": (1, 4, 7), "spots": (0, 2, 4, 6, 8)}
"""Where in the grid, in reading order, each place of an arrangement is."""
GRID = 9
NOTHING = 0
"""The class of a place where nothing stands; colours and shapes begin behind it."""
WIDTHS = (32, 64, 96)
NARROW = 32
FOLDER = Path(__file__).parent
WEIGHTS = "viewer.safetensors"


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands at each place: `colours` and `shapes` int64 [pictures, GRID], `NOTHING` or one more than the word's
    index."""

    colours: Tensor
    shapes: Tensor


class Viewer(nn.Module):
    """Sees RGB pictures of `pictures.DRAWN` pixels."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.look = nn.Sequential(
            nn.Conv2d(3, first, 5, 2, 2), nn.GELU(), nn.Conv2d(first, second, 3, 2, 1), nn.GELU(),
            nn.Conv2d(second, second, 3, 1, 1), nn.GELU(), nn.Conv2d(second, third, 3, 2, 1), nn.GELU(),
            nn.Conv2d(third, third, 3, 1, 1), nn.GELU(), nn.Conv2d(third, NARROW, 1), nn.GELU(),
        )  # fmt: skip
        self.tell = nn.Linear(NARROW * 64, GRID * (len(COLOURS) + len(SHAPES) + 2))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [pictures, 3, 64, 64] from -1 to 1 -> scores of colours and of shapes, [pictures, GRID, names + 1]."""
        told = self.tell(self.look(pixels).flatten(1)).float().unflatten(1, (GRID, -1))
        colours, shapes = told.split((len(COLOURS) + 1, len(SHAPES) + 1), dim=2)
        return colours, shapes

    def loss(self, pixels: Tensor, right: Seen) -> Tensor:
        """Mean over places, of colours and shapes together."""
        colours, shapes = self(pixels)
        return F.cross_entropy(colours.flatten(0, 1), right.colours.flatten()) + F.cross_entropy(
            shapes.flatten(0, 1), right.shapes.flatten()
        )

    @torch.inference_mode()
    def see(self, pixels: Tensor) -> Seen:
        """What stands in pictures uint8 [pictures, 3, 64, 64]."""
        colours, shapes = self(pixels.float() / 127.5 - 1)
        return Seen(colours.argmax(2), shapes.argmax(2))

    def save(self, folder: Path) -> None:
        """Writes the weights, rounded to bfloat16."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {key: value.bfloat16().contiguous() for key, value in self.state_dict().items()}, folder / WEIGHTS
        )

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Viewer:
        viewer = cls()
        viewer.load_state_dict({key: value.float() for key, value in load_file(folder / WEIGHTS).items()})
        return viewer.eval()


def truth(scenes: list[Scene]) -> Seen:
    """What is to be seen in pictures of the scenes."""
    colours, shapes = (torch.full((len(scenes), GRID), NOTHING) for _ in range(2))
    for row, scene in enumerate(scenes):
        for thing, place in zip(scene.things, scene.places, strict=True):
            at = PLACES[scene.layout][place]
            colours[row, at] = 1 + COLOURS.index(thing.colour)
            shapes[row, at] = 1 + SHAPES.index(thing.shape)
    return Seen(colours, shapes)
