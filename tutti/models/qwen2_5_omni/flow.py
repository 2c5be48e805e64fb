"""The flow from noise to a spectrogram: the network's slope at a time and a state, and the steps along it.

A window of sound asks for dozens of slopes. What depends on neither time nor state (voice, codes, positions) is
computed once, and attention looks only at the blocks that a layer may see, instead of at all frames through a mask.
Few layers look back, and only one block: what they see of the block before a window is kept from the window before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.models.qwen2_5_omni.dit import Block, FlowNetwork, modulated

STEPS, GUIDANCE, SWAY = 10, 0.5, -1.0


Looked = tuple[Tensor, Tensor]  # keys and values [2, heads, block, dim]


@dataclass(slots=True)
class Past:
    """What layers that look back see of the last block before the next window, by the slope's number and the layer's.

    `blocks` are all the blocks before that window.
    """

    blocks: int = 0
    seen: dict[tuple[int, int], Looked] = field(default_factory=dict)


class Flow:
    """The slope for one window: with the codes and the voice, and without, for guidance (Ho and Salimans 2022)."""

    def __init__(self, network: FlowNetwork, codes: Tensor, voice: Tensor, past: Past, new: int) -> None:
        """`codes` int64 [1, codes]; `voice`: what the network's `voice` makes of the speaker.

        The window begins behind `past`; while its slopes are computed, its first `new` blocks become past.
        """
        self.network = network
        self.frames = codes.shape[1] * network.repeats
        self._past, self._new = past, new
        self._slopes = 0  # computed so far
        self._enter = network.input_embed.columns.state
        self._known = network.known(codes, voice)
        first = past.blocks * network.block
        self._cos, self._sin = (turns[first:] for turns in network.rotation(first + self.frames))
        self._masks: dict[tuple[int, int], Tensor | None] = {}

    def slope(self, time: float, x: Tensor) -> Tensor:
        """dx/dt of `x` float32 [1, frames, bands] at `time` (0 to 1), guided."""
        network = self.network
        moment = network.moment(time)
        hidden = (F.linear(x, self._enter) + self._known).to(network.dtype)
        for number, layer in enumerate(network.transformer_blocks):
            assert isinstance(layer, Block)
            shift, scale, gate, shift_ff, scale_ff, gate_ff = moment.layers[number]
            attended = self._attend(layer, modulated(hidden, scale, shift), number)
            hidden = torch.addcmul(hidden, gate, attended)
            hidden = torch.addcmul(hidden, gate_ff, layer.ff(modulated(hidden, scale_ff, shift_ff)))
        self._slopes += 1
        shift, scale = moment.last
        guided, free = network.proj_out(modulated(hidden, scale, shift)).float().chunk(2)
        return guided + (guided - free) * GUIDANCE

    def _attend(self, layer: Block, x: Tensor, number: int) -> Tensor:
        """Attention of layer `number` within blocks of frames, and to the one before and behind if it looks there."""
        back, ahead = layer.back, layer.ahead
        parts = layer.attn.to_qkv(x).unflatten(2, (3, self.network.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        queries, keys, values = self._blocks(self._rotate(q)), self._blocks(self._rotate(k)), self._blocks(v)
        before = self._look_back(number, keys, values) if back else (None, None)
        attended = F.scaled_dot_product_attention(
            queries.flatten(1, 2),
            _beside(keys, before[0], ahead).flatten(1, 2),
            _beside(values, before[1], ahead).flatten(1, 2),
            self._mask(back, ahead),
        )
        in_blocks = attended.unflatten(1, (self.network.heads, -1))
        joined = in_blocks.flatten(2, 3)[:, :, : self.frames].transpose(1, 2).flatten(2)
        out: Tensor = layer.attn.to_out(joined)
        return out

    def _look_back(self, number: int, keys: Tensor, values: Tensor) -> Looked:
        """Layer `number`'s keys and values of the block before the window, which its last new one replaces."""
        place, last = (self._slopes, number), self._new - 1
        before = self._past.seen.get(place) or (torch.zeros_like(keys[:, :, 0]),) * 2
        self._past.seen[place] = keys[:, :, last].clone(), values[:, :, last].clone()
        return before

    def _rotate(self, x: Tensor) -> Tensor:
        """Positions, which only the first head has (so it was trained), in place: neighbours turn together."""
        first = x[:, :1]
        even, odd = first[..., 0::2], first[..., 1::2]
        turned = torch.cat([even * self._cos - odd * self._sin, odd * self._cos + even * self._sin], dim=-1)
        first.copy_(turned)
        return x

    def _blocks(self, x: Tensor) -> Tensor:
        """[2, heads, frames, dim] -> [2, heads, blocks, block, dim], zeros behind the last frame."""
        size = self.network.block
        return F.pad(x, (0, 0, 0, -self.frames % size)).unflatten(2, (-1, size))

    def _mask(self, back: int, ahead: int) -> Tensor | None:
        """Which of the keys beside each block are frames, bool [1, heads * blocks, 1, keys]; None: all of them."""
        if (back, ahead) not in self._masks:
            size = self.network.block
            blocks = -(-self.frames // size)
            starts = torch.arange(blocks, device=self._known.device)[:, None] * size
            at = starts + torch.arange(-back * size, (1 + ahead) * size, device=starts.device)
            real = (at >= -self._past.blocks * size) & (at < self.frames)
            everywhere = real[:, None].repeat(self.network.heads, 1, 1)[None]
            self._masks[back, ahead] = None if bool(real.all()) else everywhere
        return self._masks[back, ahead]


def _beside(x: Tensor, before: Tensor | None, ahead: int) -> Tensor:
    """Each block of `x` [2, heads, blocks, block, dim] together with the one before it and the one behind it.

    `before` [2, heads, block, dim] is the one before the first; None: none is looked at.
    """
    parts = [x]
    if before is not None:
        parts.insert(0, torch.cat([before[:, :, None], x[:, :, :-1]], dim=2))
    if ahead:
        parts.append(F.pad(x, (0, 0, 0, 0, 0, 1))[:, :, 1:])
    return torch.cat(parts, dim=3) if len(parts) > 1 else x


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
