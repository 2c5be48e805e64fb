"""The vision encoder on a batch of pictures of one size, as training needs it: the same function as transformers' class."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniVisionEncoder, rotate_half

from tutti.media.image import resize
from tutti.models.processor.files import Colours
from tutti.models.qwen2_vl.media import Pixels, fitted
from tutti.models.qwen2_vl.vision import patches

from .omni import LEAST_PIXELS, MERGE, MOST_PIXELS, PATCH

COLOURS = Colours(1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PIXELS = Pixels(PATCH, 2, MERGE, LEAST_PIXELS, MOST_PIXELS, COLOURS)
Through = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
CELL = PATCH * MERGE
"""Pixels of the side of what becomes one row."""

Grid = tuple[int, int]
"""Rows and columns of cells."""


def cut(image: Image.Image) -> tuple[Tensor, Grid]:
    """A picture brought to the encoder's size: its patches float32 [patches, values], and its cells."""
    pixels = np.asarray(image.convert("RGB"))
    size = fitted(*pixels.shape[:2], CELL, LEAST_PIXELS, MOST_PIXELS)
    cut_up = patches(torch.from_numpy(resize(pixels, *size).copy())[None], PIXELS)
    return cut_up.values, (cut_up.grid[1] // MERGE, cut_up.grid[2] // MERGE)


def through_block(block: nn.Module, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Patches [pictures, patches, width] through a block; `cosines` and `sines` of their places [patches, width of a head].

    Self-attention without SDPA, whose backward pass is slow on a CPU.
    """
    attention, y = block.attn, block.norm1(x)
    q, k, v = (
        p(y).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for p in (attention.q, attention.k, attention.v)
    )
    q, k = (t.float() * cosines + rotate_half(t.float()) * sines for t in (q, k))
    scores = (q * attention.scaling).to(v.dtype) @ k.to(v.dtype).transpose(-1, -2)
    x = x + attention.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    y = block.norm2(x)
    return x + block.mlp.down_proj(F.silu(block.mlp.gate_proj(y)) * block.mlp.up_proj(y))


def see(
    eyes: Qwen2_5OmniVisionEncoder, pictures: Tensor, grid: Grid, through: Through = through_block
) -> Tensor:
    """`pictures` float32 [pictures, patches, values], all of the same cells -> rows [pictures, cells, width]. `through` is
    `through_block`, or the same compiled."""
    x = pictures @ eyes.patch_embed.proj.weight.flatten(1).T
    cos, sin = eyes.rotary_pos_emb(x, _positions(grid))
    for block in eyes.blocks:
        x = through(block, x, cos, sin)
    return eyes.merger.mlp(eyes.merger.ln_q(x).unflatten(1, (-1, MERGE**2)).flatten(2))


@cache
def _positions(grid: Grid) -> Tensor:
    """Row and column of every patch, in the order in which those of a cell are neighbours: int64 [patches, 2]."""
    rows, columns = torch.meshgrid(
        torch.arange(grid[0] * MERGE), torch.arange(grid[1] * MERGE), indexing="ij"
    )
    by_cells = [p.reshape(grid[0], MERGE, grid[1], MERGE).transpose(1, 2).flatten() for p in (rows, columns)]
    return torch.stack(by_cells, 1)
