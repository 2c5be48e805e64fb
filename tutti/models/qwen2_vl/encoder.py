"""The vision encoder's network of Qwen2.5-VL (arXiv 2502.13923, 2.1.1) and Qwen2.5-Omni: patches to rows.

Most layers attend within square windows of a frame, some to the whole frame. `merge` x `merge` neighbouring patches, a
cell, become a row at the end. Cells are computed in the order of their windows, and rows returned in that of the
picture. The parameters have the checkpoint's names, but for those that lie in one (`STACKS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.kernels import apply_rope, gated, rms_norm
from tutti.layers.modules import Conv3d, Linear
from tutti.layers.windows import Windows
from tutti.models import reading
from tutti.models.reading import Config

STACKS = {"qkv": ("q", "k", "v"), "gate_up_proj": ("gate_proj", "up_proj")}
"""For `towers.fill`; Qwen2.5-VL's checkpoints have `qkv` themselves."""

Grid = tuple[int, int, int]
"""Frames, and rows and columns of patches in each."""

EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Layout:
    """Where patches are. `order` int64 [cells]: the cells as they are computed; `places` int64 [patches, 2]: row and
    column of each patch in that order; `windows` and `frames` are patches that see each other."""

    order: Tensor
    places: Tensor
    windows: Windows
    frames: Windows


class WindowedEncoder(nn.Module):
    """The encoder."""

    def __init__(self, config: Config) -> None:
        """`config`: the section `vision_config` of config.json."""
        super().__init__()
        width = config.get("hidden_size", 3584)
        depth = config.get("depth", 32)
        heads = config.get("num_heads", 16)
        self.head_dim = width // heads
        patch = config.get("patch_size", 14)
        self.merge = config.get("spatial_merge_size", 2)
        self.side = config.get("window_size", 112) // self.merge // patch  # of a window, in cells
        self.whole = frozenset(config.get("fullatt_block_indexes", (7, 15, 23, 31)))
        self.base = (config.get("rope_parameters") or {}).get("rope_theta", 10_000.0)
        kernel = (config.get("temporal_patch_size", 2), patch, patch)
        self.patch_embed = _Patches(config.get("in_channels", 3), width, kernel)
        self.blocks = nn.ModuleList(_Block(config, width, heads) for _ in range(depth))
        self.merger = _Merger(width, self.merge**2, config.get("out_hidden_size", 3584))

    def forward(self, values: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Rows [cells, hidden] of pictures and videos.

        `values` [patches, values of a patch]: all their patches, those of a cell together, on the weights' device and
        in their dtype.
        """
        layout = self.layout(grids)
        order = layout.order.to(values.device)
        x = self.patch_embed(values).unflatten(0, (-1, self.merge**2))[order].flatten(0, 1)
        cos, sin = (turn.to(values.device) for turn in self.rotation(layout.places))
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, layout.frames if index in self.whole else layout.windows)
        rows: Tensor = self.merger(x)
        return torch.empty_like(rows).index_copy_(0, order, rows)

    def layout(self, grids: Sequence[Grid]) -> Layout:
        """Windows of one size follow each other within a frame, so that they are computed together."""
        orders, places, windows, frames = [], [], [], []
        within = torch.cartesian_prod(torch.arange(self.merge), torch.arange(self.merge))
        start = 0
        for count, height, width in grids:
            rows, columns = height // self.merge, width // self.merge
            order, lengths = frame_windows(rows, columns, self.side)
            cells = torch.stack([order // columns, order % columns], dim=1)
            places.append((cells[:, None] * self.merge + within).flatten(0, 1).repeat(count, 1))
            for _ in range(count):
                orders.append(order + start)
                start += rows * columns
            windows += lengths * count
            frames += [rows * columns] * count
        unit = self.merge**2
        return Layout(
            torch.cat(orders),
            torch.cat(places),
            Windows(length * unit for length in windows),
            Windows(length * unit for length in frames),
        )

    def rotation(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of every patch, float32 [patches, head_dim / 2]: half of them turn with the row, half with the
        column, at the same speeds."""
        half = self.head_dim // 2
        speeds = 1.0 / self.base ** (torch.arange(0, half, 2).float() / half)
        angles = (places[:, :, None] * speeds).flatten(1)
        return angles.cos(), angles.sin()


def frame_windows(rows: int, columns: int, side: int) -> tuple[Tensor, list[int]]:
    """The cells of a frame by windows of `side` x `side`, smaller at the right and at the bottom.

    int64 [cells], and how many cells each window has; windows of one size follow each other.
    """
    across = -(-columns // side)
    window = (torch.arange(rows)[:, None] // side * across + torch.arange(columns) // side).flatten()
    sizes = window.bincount()
    order = (sizes[window] * len(sizes) + window).argsort(stable=True)
    return order, sizes.sort().values.tolist()


class _Patches(nn.Module):
    """A convolution whose strides are its sizes: a matrix product."""

    def __init__(self, channels: int, width: int, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = Conv3d(channels, width, size, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.proj.weight.flatten(1))


class _Norm(nn.Module):
    """See `kernels.rms_norm`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, EPS)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + ff(norm(x))."""

    def __init__(self, config: Config, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _Norm(width), _Norm(width)
        self.attn = _Attention(width, heads)
        self.mlp = _FeedForward(config, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, windows: Windows) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin, windows)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, windows: Windows) -> Tensor:
        q, k, v = self.qkv(x).unflatten(1, (3, self.heads, -1)).unbind(1)
        q, k = apply_rope(q, k, cos, sin)
        out: Tensor = self.proj(windows.attend(q, k, v))
        return out


class _FeedForward(nn.Module):
    """down(act(gate(x)) * up(x)) with gate and up in one product."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        inner = config.get("intermediate_size", 3420)
        self.activation = reading.activation(config, "hidden_act")
        self.gate_up_proj = Linear(width, 2 * inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(gated(self.gate_up_proj(x), self.activation))
        return out


class _Merger(nn.Module):
    """A cell's patches beside each other, through two layers."""

    def __init__(self, width: int, patches: int, hidden: int) -> None:
        super().__init__()
        self.patches = patches
        self.ln_q = _Norm(width)
        wide = width * patches
        self.mlp = nn.Sequential(Linear(wide, wide), nn.GELU(), Linear(wide, hidden))

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.mlp(self.ln_q(x).unflatten(0, (-1, self.patches)).flatten(1))
        return rows
