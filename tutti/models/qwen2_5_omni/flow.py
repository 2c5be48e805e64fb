"""The flow from noise to a spectrogram: the network's slope at a time and a state, and the steps along it.

A window of sound asks for dozens of slopes. What depends on neither time nor state (voice, codes, positions) is
computed once, and attention looks only at the blocks that a layer may see, instead of at all frames through a mask.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.models.qwen2_5_omni.dit import Attention, Block, FlowNetwork, modulated

STEPS, GUIDANCE, SWAY = 10, 0.5, -1.0


class Flow:
    """The slope for one window: with the codes and the voice, and without, for guidance (Ho and Salimans 2022)."""

    def __init__(self, network: FlowNetwork, codes: Tensor, condition: Tensor, mel: Tensor) -> None:
        """`codes` int64 [1, codes]; the voice's `condition` float32 [1, width] and `mel` float32 [1, frames, bands]."""
        self.network = network
        self.frames = codes.shape[1] * network.repeats
        enter = network.input_embed.proj
        bands = network.bands
        self._enter = enter.weight[:, :bands]
        voice = network.input_embed.spk_encoder(torch.cat([mel, torch.zeros_like(mel)]))
        said = network.text_embed(torch.cat([codes, torch.zeros_like(codes)]))
        speaker = torch.cat([condition, torch.zeros_like(condition)])
        known = [
            voice[:, None].expand(-1, self.frames, -1),
            said,
            speaker[:, None].expand(-1, self.frames, -1),
        ]
        self._known = F.linear(torch.cat(known, dim=-1), enter.weight[:, bands:], enter.bias)
        self._cos, self._sin = network.rotation(self.frames)
        self._masks: dict[tuple[int, int], Tensor | None] = {}

    def slope(self, time: Tensor, x: Tensor) -> Tensor:
        """dx/dt of `x` [1, frames, bands] at `time` (0 to 1), guided."""
        network = self.network
        moment = network.time_embed(time.reshape(1))
        hidden = F.linear(x, self._enter) + self._known
        for layer in network.transformer_blocks:
            assert isinstance(layer, Block)
            shift, scale, gate, shift_ff, scale_ff, gate_ff = layer.attn_norm(moment)
            normed = modulated(hidden, scale, shift)
            hidden = hidden + gate * self._attend(layer.attn, normed, layer.back, layer.ahead)
            hidden = hidden + gate_ff * layer.ff(modulated(hidden, scale_ff, shift_ff))
        scale, shift = network.norm_out(moment)
        guided, free = network.proj_out(modulated(hidden, scale, shift)).chunk(2)
        return guided + (guided - free) * GUIDANCE

    def _attend(self, attention: Attention, x: Tensor, back: int, ahead: int) -> Tensor:
        """Attention within blocks of frames, and to the one before (`back`) and behind (`ahead`)."""
        parts = attention.to_qkv(x).unflatten(2, (3, self.network.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        q, k = self._rotate(q), self._rotate(k)
        queries, keys, values = self._blocks(q), self._blocks(k), self._blocks(v)
        attended = F.scaled_dot_product_attention(
            queries, _beside(keys, back, ahead), _beside(values, back, ahead), self._mask(back, ahead)
        )
        joined = attended.flatten(2, 3)[:, :, : self.frames].transpose(1, 2).flatten(2)
        out: Tensor = attention.to_out(joined)
        return out

    def _rotate(self, x: Tensor) -> Tensor:
        """Positions, which only the first head has (so it was trained): neighbouring columns turn together."""
        first = x[:, :1]
        even, odd = first[..., 0::2], first[..., 1::2]
        turned = torch.cat([even * self._cos - odd * self._sin, odd * self._cos + even * self._sin], dim=-1)
        return torch.cat([turned.to(x.dtype), x[:, 1:]], dim=1)

    def _blocks(self, x: Tensor) -> Tensor:
        """[2, heads, frames, dim] -> [2, heads, blocks, block, dim], zeros behind the last frame."""
        size = self.network.block
        return F.pad(x, (0, 0, 0, -self.frames % size)).unflatten(2, (-1, size))

    def _mask(self, back: int, ahead: int) -> Tensor | None:
        """Which of the keys beside each block are frames, bool [blocks, 1, keys]; None: all of them."""
        if (back, ahead) not in self._masks:
            size = self.network.block
            blocks = -(-self.frames // size)
            starts = torch.arange(blocks, device=self._known.device)[:, None] * size
            at = starts + torch.arange(-back * size, (1 + ahead) * size, device=starts.device)
            real = (at >= 0) & (at < self.frames)
            self._masks[back, ahead] = None if bool(real.all()) else real[:, None]
        return self._masks[back, ahead]


def _beside(x: Tensor, back: int, ahead: int) -> Tensor:
    """Each block of `x` [2, heads, blocks, block, dim] together with the one before it and the one behind it."""
    parts = [x]
    if back:
        parts.insert(0, F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1])
    if ahead:
        parts.append(F.pad(x, (0, 0, 0, 0, 0, 1))[:, :, 1:])
    return torch.cat(parts, dim=3) if len(parts) > 1 else x


def follow(slope: Callable[[Tensor, Tensor], Tensor], noise: Tensor) -> Tensor:
    """From `noise` at time 0 to time 1, in steps that are smaller in the beginning (sway, Chen et al. 2024)."""
    times = torch.linspace(0, 1, STEPS, device=noise.device)
    return integrate(slope, noise, times + SWAY * (torch.cos(math.pi / 2 * times) - 1 + times))


def integrate(slope: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: Tensor) -> Tensor:
    """The end of dx/dt = slope(t, x) that begins at `x`, by Runge and Kutta's method of order four (the 3/8 rule)."""
    for start, end in itertools.pairwise(times):
        step = end - start
        k1 = slope(start, x)
        k2 = slope(start + step / 3, x + step * k1 / 3)
        k3 = slope(start + step * 2 / 3, x + step * (k2 - k1 / 3))
        k4 = slope(end, x + step * (k1 - k2 + k3))
        x = x + (k1 + 3 * (k2 + k3) + k4) * step / 8
    return x
