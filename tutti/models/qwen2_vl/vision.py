"""The vision tower: patches of pictures and videos to the rows that stand in the prompt.

Qwen2.5-VL's network is ours (`encoder`), Qwen2-VL's transformers' module.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.processor.media import unpack
from tutti.models.qwen2_vl import encoder
from tutti.models.qwen2_vl.config import vision_config
from tutti.models.qwen2_vl.encoder import Grid, WindowedEncoder
from tutti.models.qwen2_vl.media import Pixels, pixels
from tutti.models.reading import Config
from tutti.models.towers import fill_tower, load_tower, normalized
from tutti.request import MediaInput

TARGET = "transformers.models.qwen2_vl.modeling_qwen2_vl:Qwen2VisionTransformerPretrainedModel"
PREFIXES = ("model.visual.", "visual.")


@dataclass(frozen=True, slots=True)
class Patches:
    """A picture or video cut into patches: `values` float32 [patches, values], `grid` (frames, rows, columns)."""

    values: Tensor
    grid: Grid


class VisionTower:
    """Implements `models.protocols.OnceModel` and `Splits`."""

    def __init__(self, tower: Any, pixels: Pixels, device: torch.device, dtype: torch.dtype) -> None:
        self.tower = tower
        self.pixels = pixels
        self.device = device
        self.dtype = dtype

    def take(self, part: MediaInput) -> Patches:
        """See `OnceModel.take`; `part` holds frames uint8 [frames, height, width, 3]."""
        frames = torch.from_numpy(unpack(part.arrays["frames"]).copy())
        return patches(frames, self.pixels)

    def cost(self, item: Patches) -> int:
        """See `OnceModel.cost`: patches."""
        return len(item.values)

    def bucket(self, item: Patches) -> Hashable:
        """See `OnceModel.bucket`: pictures of all sizes are computed together."""
        return None

    def split(self, item: Patches) -> Sequence[Patches]:
        """See `Splits.split`: the tower looks at a video's frames one by one."""
        _, rows, columns = item.grid
        return [Patches(values, (1, rows, columns)) for values in item.values.split(rows * columns)]

    def join(self, payloads: list[Tensor]) -> Tensor:
        """See `Splits.join`."""
        return torch.cat(payloads)

    def run(self, items: list[Patches]) -> list[Tensor]:
        """Rows [tokens, hidden] per item."""
        values = torch.cat([item.values for item in items]).to(self.device, self.dtype)
        merged = self.pixels.merge**2
        rows = self.encode(values, [item.grid for item in items])
        return list(rows.split([len(item.values) // merged for item in items]))

    def encode(self, values: Tensor, grids: list[Grid]) -> Tensor:
        """The rows of all pictures, from their patches [patches, values] and their grids."""
        rows: Tensor = self.tower(values, grid_thw=torch.tensor(grids, device=self.device)).pooler_output
        return rows


class WindowedTower(VisionTower):
    """The tower of Qwen2.5-VL's kind."""

    tower: WindowedEncoder

    def encode(self, values: Tensor, grids: list[Grid]) -> Tensor:
        """See `VisionTower.encode`."""
        rows: Tensor = self.tower(values, grids)
        return rows


def patches(frames: Tensor, how: Pixels) -> Patches:
    """`frames` uint8 [frames, height, width, 3] -> patches, in the order in which merged ones are neighbours.

    A picture is one frame, repeated to fill a patch in time; a video's last frame is repeated so far.
    """
    missing = -len(frames) % how.frames
    if missing:
        frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
    values = normalized(frames, how.colours)
    count, height, width, channels = values.shape
    grid = (count // how.frames, height // how.patch, width // how.patch)
    blocks = values.permute(0, 3, 1, 2).reshape(
        grid[0],
        how.frames,
        channels,
        grid[1] // how.merge,
        how.merge,
        how.patch,
        grid[2] // how.merge,
        how.merge,
        how.patch,
    )
    ordered = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return Patches(ordered.reshape(grid[0] * grid[1] * grid[2], -1), grid)


def build(checkpoint: Checkpoint, options: BuildOptions) -> VisionTower:
    """The tower with its weights."""
    config = dict(vision_config(checkpoint.config))
    if checkpoint.config["model_type"] != "qwen2_vl":
        return windowed(checkpoint, options, config, PREFIXES)
    tower = load_tower(checkpoint, options, TARGET, config, PREFIXES)
    return VisionTower(
        tower, pixels(checkpoint.path, config), torch.device(options.device), getattr(torch, options.dtype)
    )


def windowed(
    checkpoint: Checkpoint, options: BuildOptions, config: Config, prefixes: Sequence[str]
) -> WindowedTower:
    """The tower of Qwen2.5-VL's kind with its weights, which lie under one of `prefixes`."""
    tower = fill_tower(WindowedEncoder(config), checkpoint, options, prefixes, encoder.STACKS)
    return WindowedTower(
        tower, pixels(checkpoint.path, config), torch.device(options.device), getattr(torch, options.dtype)
    )
