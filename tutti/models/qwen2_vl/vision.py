"""The vision tower: patches of pictures and videos to the rows that stand in the prompt. transformers' modules."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.processor.media import unpack
from tutti.models.qwen2_vl.config import vision_config
from tutti.models.qwen2_vl.media import Pixels, pixels
from tutti.models.towers import load_tower, normalized
from tutti.request import MediaInput

TOWERS = {
    "qwen2_vl": "transformers.models.qwen2_vl.modeling_qwen2_vl:Qwen2VisionTransformerPretrainedModel",
    "qwen2_5_vl": "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl:Qwen2_5_VisionTransformerPretrainedModel",
}
PREFIXES = ("model.visual.", "visual.")


@dataclass(frozen=True, slots=True)
class Patches:
    """A picture or video cut into patches: `values` float32 [patches, values], `grid` (frames, rows, columns)."""

    values: Tensor
    grid: tuple[int, int, int]


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
        grids = torch.tensor([item.grid for item in items], device=self.device)
        merged = self.pixels.merge**2
        return list(self.encode(values, grids).split([len(item.values) // merged for item in items]))

    def encode(self, values: Tensor, grids: Tensor) -> Tensor:
        """The rows of all pictures, from their patches [patches, values] and `grids` int64 [pictures, 3]."""
        rows: Tensor = self.tower(values, grid_thw=grids).pooler_output
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
    target = TOWERS[str(checkpoint.config["model_type"])]
    tower = load_tower(checkpoint, options, target, config, PREFIXES)
    return VisionTower(
        tower, pixels(checkpoint.path, config), torch.device(options.device), getattr(torch, options.dtype)
    )
