"""Llama 3.2 Vision's tower: a picture's tiles to rows as wide as the language model. transformers' module."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.mllama.config import TileConfig, text_config, tile_config, vision_config
from tutti.models.processor.files import Colours, colours, image_settings
from tutti.models.processor.media import unpack
from tutti.models.towers import fill, load_tower, normalized
from tutti.request import MediaInput

TOWER = "transformers.models.mllama.modeling_mllama:MllamaVisionModel"
HOMES = ("model.", "")  # where both lie, in checkpoints of either generation of transformers


@dataclass(frozen=True, slots=True)
class Tiled:
    """A picture: `values` float32 [tiles, 3, side, side] and the number of the arrangement of its tiles."""

    values: Tensor
    arrangement: int


class VisionTower:
    """Implements `models.protocols.OnceModel`.

    The rows of a picture are those of as many tiles as a picture can have, its own first: the tower looks at the empty
    ones, too, and so does the text before the picture.
    """

    def __init__(self, tower: Any, projector: nn.Linear, tiles: TileConfig, colours: Colours) -> None:
        self.tower = tower
        self.projector = projector
        self.tiles = tiles
        self.colours = colours

    def take(self, part: MediaInput) -> Tiled:
        """See `OnceModel.take`; `part` is what `media.Reader` makes."""
        tiles = torch.from_numpy(unpack(part.arrays["tiles"]).copy())
        values = normalized(tiles, self.colours).permute(0, 3, 1, 2)
        return Tiled(values, int(unpack(part.arrays["arrangement"])[0]))

    def cost(self, item: Tiled) -> int:
        """See `OnceModel.cost`: rows."""
        return self.tiles.most * self.tiles.rows

    def bucket(self, item: Tiled) -> Hashable:
        """See `OnceModel.bucket`: all pictures are computed with the same number of tiles."""
        return None

    def run(self, items: list[Tiled]) -> list[Tensor]:
        """Rows [tiles * rows, hidden] per item."""
        weight = self.projector.weight
        side = self.tiles.pixels
        values = torch.zeros(len(items), 1, self.tiles.most, 3, side, side)
        there = torch.zeros(len(items), 1, self.tiles.most, dtype=torch.int64)
        for number, item in enumerate(items):
            values[number, 0, : len(item.values)] = item.values
            there[number, 0, : len(item.values)] = 1
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # the module calls its own layers by a name on its way out
            seen = self.tower(
                pixel_values=values.to(weight.device, weight.dtype),
                aspect_ratio_ids=torch.tensor([[item.arrangement] for item in items], device=weight.device),
                aspect_ratio_mask=there.to(weight.device),
            ).last_hidden_state
        rows: Tensor = self.projector(seen).flatten(1, 3)
        return [one.clone() for one in rows]  # one that is kept must not keep the others


def build(checkpoint: Checkpoint, options: BuildOptions) -> VisionTower:
    """The tower and the projector with their weights."""
    config = checkpoint.config
    vision = vision_config(config)
    tower = load_tower(checkpoint, options, TOWER, vision, [f"{home}vision_model." for home in HOMES])
    with torch.device("meta"):
        projector = nn.Linear(vision["vision_output_dim"], text_config(config)["hidden_size"])
    home = next((home for home in HOMES if f"{home}multi_modal_projector.weight" in checkpoint.tensors), "")
    fill(projector, checkpoint, options, f"{home}multi_modal_projector.")
    return VisionTower(tower, projector.eval(), tile_config(config), colours(image_settings(checkpoint.path)))
