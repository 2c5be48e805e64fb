"""The flow from noise to a spectrogram: the network's slope at a time and a state, and the steps along it.

A window of sound asks for dozens of slopes. What depends on neither time nor state (voice, codes, positions) is
computed once, and attention looks only at the blocks that a layer may see, instead of at all frames through a mask.
Few layers look back, and only one block: what they see of the block before a window is kept from the window before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.models.qwen2_5_omni.dit import Block, FlowNetwork, modulated

STEPS, GUIDANCE, SWAY = 10, 0.5, -1.0
_GROUP = 16  # keys: CPUs are slower at attention with what fills no vector


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What layers that look back see of the last of the `blocks` before an answer's next window.

    `seen` are their keys and values in the order of the walk, [looks, 2, block, 2, heads, dim]: with guidance and
    without, keys and values. None: nothing was before.
    """

    blocks: int = 0
    seen: Tensor | None = None


class Flow:
    """The slope for windows of one shape: with codes and voices, and without, for guidance (Ho and Salimans 2022).

    Inside, all frames are one dimension: the windows with guidance, one behind the other in whole blocks, and then the
    same without. So what is beside a block lies beside it in memory, and most layers see it there.
    """

    def __init__(
        self, network: FlowNetwork, codes: Tensor, voices: Sequence[Tensor], pasts: Sequence[Past], new: int
    ) -> None:
        """`codes` int64 [windows, codes]; of each window what the network's `voice` makes of its speaker, and its past.

        Either all windows have something before them, or none. Their first `new` blocks are kept for what follows.
        """
        self.network = network
        self.frames = codes.shape[1] * network.repeats
        self._windows, self._new = len(codes), new
        self._pasts = [past.blocks for past in pasts]
        size = network.block
        self._blocks = -(-self.frames // size)
        self._missing = self._blocks * size - self.frames
        self._enter = network.input_embed.columns.state
        known = network.known(codes, torch.stack(list(voices), dim=1).flatten(0, 1))
        self._known = F.pad(known, (0, 0, 0, self._missing)).unflatten(0, (2, -1))
        before = torch.tensor(self._pasts, device=codes.device)[:, None] * size
        frames = torch.arange(self._blocks * size, device=codes.device)
        self._turns = network.rotation(before + frames)[:, :, None]
        # Queries, keys and values of a layer, and behind them room for what the last block looks at in vain.
        rows = 2 * self._windows * len(frames) + self._keys(0, 1) - size
        self._made = known.new_zeros(rows, 3 * network.heads * network.head_dim, dtype=network.dtype)
        self._masks: dict[tuple[int, int], Tensor] = {}
        seen = [past.seen for past in pasts if past.seen is not None]
        self._seen = torch.stack(seen, dim=2).flatten(1, 2) if seen else None
        self._looked: list[Tensor] = []

    def slope(self, time: float, x: Tensor) -> Tensor:
        """dx/dt of `x` float32 [windows, frames, bands] at `time` (0 to 1), guided."""
        network = self.network
        moment = network.moment(time)
        entered = F.linear(F.pad(x, (0, 0, 0, self._missing)), self._enter)
        hidden = (entered + self._known).to(network.dtype).flatten(0, 2)
        for number, layer in enumerate(network.transformer_blocks):
            assert isinstance(layer, Block)
            shift, scale, gate, shift_ff, scale_ff, gate_ff = moment.layers[number]
            hidden.addcmul_(gate, self._attend(layer, modulated(hidden, scale, shift)))
            hidden.addcmul_(gate_ff, layer.feed(modulated(hidden, scale_ff, shift_ff)))
        shift, scale = moment.last
        out = network.to_bands(modulated(hidden, scale, shift), torch.float32)
        guided, free = out.unflatten(0, (2, self._windows, -1))[:, :, : self.frames].unbind()
        return guided + (guided - free) * GUIDANCE

    def pasts(self) -> list[Past]:
        """What the windows behind these need, once all slopes are computed."""
        seen = torch.stack(self._looked).unflatten(1, (2, -1)) if self._looked else None
        return [
            Past(blocks + self._new, None if seen is None else seen[:, :, row].clone())
            for row, blocks in enumerate(self._pasts)
        ]

    def _attend(self, layer: Block, x: Tensor) -> Tensor:
        """Attention within blocks of frames, and to the one before and behind if the layer looks there."""
        network, made = self.network, self._made[: len(x)]
        made.copy_(layer.to_qkv(x))
        parts = made.unflatten(1, (3, network.heads, -1))
        self._turn(parts[:, :2, 0].unflatten(0, (2, self._windows, -1)))
        queries = parts[:, 0].unflatten(0, (-1, network.block))
        keys, values = self._beside(layer.back, layer.ahead).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (queries, keys, values))
        attended = F.scaled_dot_product_attention(q, k, v, self._mask(layer.back, layer.ahead))
        return layer.to_out(attended.transpose(1, 2).flatten(0, 1).flatten(1))

    def _turn(self, first: Tensor) -> None:
        """Positions, which only the first head has (so it was trained), in place: neighbours turn together.

        `first` [2, windows, frames, 2, dim]: its queries and keys.
        """
        turned = torch.view_as_complex(first.float().unflatten(-1, (-1, 2))) * self._turns
        first.copy_(torch.view_as_real(turned).flatten(-2))

    def _keys(self, back: int, ahead: int) -> int:
        """How many keys a block is shown: those beside it, and what fills up the last group, which the mask hides."""
        return -(-(back + 1 + ahead) * self.network.block // _GROUP) * _GROUP

    def _beside(self, back: int, ahead: int) -> Tensor:
        """Keys and values that each block is shown, [blocks, keys, 2, heads, dim]: overlapping views if they can be.

        A layer that looks back is shown what was kept of the window before, and leaves the last new block's.
        """
        size, count = self.network.block, 2 * self._windows * self._blocks
        keys = self._keys(back, ahead)
        made = self._made.unflatten(1, (3, self.network.heads, -1))[:, 1:]
        if not back:
            return made.unfold(0, keys, size)[:count].movedim(-1, 1)
        rows = made[: count * size].unflatten(0, (2 * self._windows, -1))
        wide = F.pad(rows, (0, 0, 0, 0, 0, 0, size, keys - 2 * size))
        if self._seen is not None:
            wide[:, :size] = self._seen[len(self._looked)]
        self._looked.append(rows[:, : self._new * size][:, -size:].clone())
        return wide.unfold(1, keys, size).movedim(-1, 2).flatten(0, 1)

    def _mask(self, back: int, ahead: int) -> Tensor:
        """What is added to the scores of the keys that each block is shown, [blocks, 1, block, keys]."""
        if (back, ahead) not in self._masks:
            size, device = self.network.block, self._made.device
            beside = torch.arange(self._keys(back, ahead), device=device) - back * size
            at = torch.arange(self._blocks, device=device)[:, None] * size + beside
            real = (beside < (1 + ahead) * size) & (at < self.frames)
            if self._seen is None:
                real &= at >= 0
            hidden = self._made.new_zeros(real.shape).masked_fill_(~real, -math.inf)
            everywhere = hidden.repeat(2 * self._windows, 1)[:, None, None]
            self._masks[back, ahead] = everywhere.expand(-1, -1, size, -1)
        return self._masks[back, ahead]


def follow(slope: Callable[[float, Tensor], Tensor], noise: Tensor) -> Tensor:
    """From `noise` at time 0 to time 1, in steps that are smaller in the beginning (sway, Chen et al. 2024)."""
    times = torch.linspace(0, 1, STEPS)
    swayed = times + SWAY * (torch.cos(math.pi / 2 * times) - 1 + times)
    return integrate(slope, noise, swayed.tolist())


def integrate(slope: Callable[[float, Tensor], Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
    """The end of dx/dt = slope(t, x) that begins at `x`, by Runge and Kutta's method of order four (the 3/8 rule)."""
    for start, end in itertools.pairwise(times):
        step = end - start
        k1 = slope(start, x)
        k2 = slope(start + step / 3, x + step * k1 / 3)
        k3 = slope(start + step * 2 / 3, x + step * (k2 - k1 / 3))
        k4 = slope(end, x + step * (k1 - k2 + k3))
        x = x + (k1 + 3 * (k2 + k3) + k4) * step / 8
    return x
