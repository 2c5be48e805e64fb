"""The tower and the projector: tiles of pictures to the rows that stand in the prompt. The tower is transformers'."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.llava.config import TileConfig, text_config, tile_config, vision_config
from tutti.models.llava.media import best_canvas, kept
from tutti.models.processor.files import Colours, colours, image_settings
from tutti.models.processor.media import unpack
from tutti.models.towers import fill, load_tower, normalized
from tutti.request import MediaInput

TOWERS = {
    "clip_vision_model": "transformers.models.clip.modeling_clip:CLIPVisionModel",
    "siglip_vision_model": "transformers.models.siglip.modeling_siglip:SiglipVisionModel",
}
PREFIXES = tuple(
    f"{outer}vision_tower.{inner}" for inner in ("vision_model.", "") for outer in ("model.", "")
)


@dataclass(frozen=True, slots=True)
class Tiled:
    """A picture in tiles: `values` float32 [tiles, 3, side, side], the whole first.

    `size` (height, width) in pixels is the picture's own, given where there is more than one tile.
    """

    values: Tensor
    size: tuple[int, int] | None


class Projector(nn.Module):
    """Two layers from the tower's width to the language model's."""

    def __init__(self, config: Mapping[str, Any], seen: int, hidden: int) -> None:
        """`seen` is the width of what the tower gives."""
        from transformers.activations import ACT2FN

        super().__init__()
        bias = config.get("multimodal_projector_bias", True)
        self.linear_1 = nn.Linear(seen, hidden, bias=bias)
        self.act = ACT2FN[config.get("projector_hidden_act", "gelu")]
        self.linear_2 = nn.Linear(hidden, hidden, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """`features` [..., seen] -> [..., hidden]."""
        projected: Tensor = self.linear_2(self.act(self.linear_1(features)))
        return projected


class VisionTower:
    """Implements `models.protocols.OnceModel`."""

    def __init__(
        self,
        tower: nn.Module,
        projector: Projector,
        newline: Tensor | None,
        tiles: TileConfig,
        colours: Colours,
    ) -> None:
        """`newline` [hidden] ends every row of patches of a picture in several tiles."""
        self.tower = tower
        self.projector = projector
        self.newline = newline
        self.tiles = tiles
        self.colours = colours

    def take(self, part: MediaInput) -> Tiled:
        """See `OnceModel.take`; `part` holds tiles uint8 [tiles, side, side, 3] and, of several, the picture's size."""
        tiles = torch.from_numpy(unpack(part.arrays["tiles"]).copy())
        values = normalized(tiles, self.colours)
        size = None
        if "size" in part.arrays:
            height, width = unpack(part.arrays["size"]).tolist()
            size = height, width
        return Tiled(values.permute(0, 3, 1, 2), size)

    def cost(self, item: Tiled) -> int:
        """See `OnceModel.cost`: patches."""
        return len(item.values) * self.tiles.side**2

    def bucket(self, item: Tiled) -> Hashable:
        """See `OnceModel.bucket`: all tiles are of one size."""
        return None

    def run(self, items: list[Tiled]) -> list[Tensor]:
        """Rows [tokens, hidden] per item."""
        weight = self.projector.linear_1.weight
        values = torch.cat([item.values for item in items]).to(weight.device, weight.dtype)
        states = self.tower(values, output_hidden_states=True).hidden_states
        seen = torch.cat([states[layer][:, self.tiles.skipped :] for layer in self.tiles.layers], dim=-1)
        projected: Tensor = self.projector(seen)
        pictures = projected.split([len(item.values) for item in items])
        return [self._laid_out(rows, item) for rows, item in zip(pictures, items, strict=True)]

    def _laid_out(self, rows: Tensor, item: Tiled) -> Tensor:
        """`rows` [tiles, rows, hidden] of one picture as they stand in the prompt, [tokens, hidden].

        The whole first; then the canvas line by line over all its tiles, as far as the picture lies on it.
        """
        if item.size is None or self.tiles.sizes is None or self.newline is None:
            return rows.flatten(0, 1)
        canvas = best_canvas(item.size, self.tiles.sizes)
        down, across = (extent // self.tiles.pixels for extent in canvas)
        side, hidden = self.tiles.side, rows.shape[-1]
        lines = rows[1:].view(down, across, side, side, hidden).transpose(1, 2)
        lines = lines.reshape(down * side, across * side, hidden)
        height, width = kept(item.size, canvas, self.tiles)
        lines = lines[height.start : height.stop, width.start : width.stop]
        ends = self.newline.expand(len(lines), 1, hidden)
        return torch.cat([rows[0], torch.cat([lines, ends], dim=1).flatten(0, 1)])


def build(checkpoint: Checkpoint, options: BuildOptions) -> VisionTower:
    """The tower and the projector with their weights."""
    config = checkpoint.config
    vision, tiles = vision_config(config), tile_config(config)
    tower = load_tower(checkpoint, options, TOWERS[vision["model_type"]], vision, PREFIXES)
    with torch.device("meta"):
        hidden = text_config(config)["hidden_size"]
        projector = Projector(config, vision["hidden_size"] * len(tiles.layers), hidden)
    home = "model." if "model.multi_modal_projector.linear_1.weight" in checkpoint.tensors else ""
    fill(projector, checkpoint, options, f"{home}multi_modal_projector.")
    newline = None
    if tiles.sizes is not None:
        stored = checkpoint.tensor(f"{home}image_newline")
        newline = torch.empty_like(stored, dtype=getattr(torch, options.dtype), device=options.device)
        newline.copy_(stored)
    return VisionTower(tower, projector.eval(), newline, tiles, colours(image_settings(checkpoint.path)))
