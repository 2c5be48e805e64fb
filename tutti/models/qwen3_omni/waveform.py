"""From frames of codes to samples, piece by piece: a network that never looks ahead, with what it must remember.

The weights are in transformers' modules; the walk through them is ours. Every attention remembers the keys and values
of its window, every convolution the inputs that its kernel still covers, and every transposed convolution its last
input, whose samples overlap those of the next one. So pieces of any length, one after the other, give the samples of
the whole, and nothing is computed twice:

    pieces    |-------------|-----|---------...
    samples   |-----------| |-----|---------...     the last samples of a piece come with the next one's first
                          overlap
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.kernels import snake


@dataclass(frozen=True, slots=True)
class Memory:
    """What the network remembers of one answer after `frames` frames; tensors [1, ...], in the order of the walk."""

    frames: int
    tensors: tuple[Tensor, ...]


class Walk:
    """One pass: what was remembered before, and what will be remembered."""

    def __init__(self, before: Sequence[Tensor]) -> None:
        self._before: Iterator[Tensor] = iter(before)
        self.begins = not before
        self.after: list[Tensor] = []

    def joined(self, x: Tensor, missing: int, keep: int) -> Tensor:
        """`x` behind what was remembered of its last axis, `missing` zeros in the beginning; its end is kept."""
        past = x.new_zeros(*x.shape[:-1], missing) if self.begins else next(self._before)
        whole = torch.cat([past, x], dim=-1)
        self.after.append(whole[..., whole.shape[-1] - keep :].clone())  # not the whole, which it would hold
        return whole


class Waveform:
    """The network. `module` is transformers' code2wav."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.window: int = module.config.sliding_window
        self._turns = {id(one): _constants(one) for one in module.modules() if hasattr(one, "no_div_by_zero")}

    def samples(self, codes: Tensor, memories: Sequence[Memory | None]) -> tuple[Tensor, list[Memory]]:
        """The samples float32 [answers, samples] of `codes` int64 [answers, codebooks, frames], and the memories after.

        All memories are of answers that have begun, or none is (all None).
        """
        walk = Walk(_stacked(memories))
        before = [0 if one is None else one.frames for one in memories]
        module = self.module
        x = self._transformer(self._embed(codes, walk), before, walk).transpose(1, 2)
        for upsample, refine in module.upsample:
            x = self._refine(refine, self._upsample(upsample, x, walk), walk)
        first, *blocks, bend, last = module.decoder
        x = self._convolve(first, x, walk)
        for block in blocks:
            x = self._block(block.block, x, walk)
        x = self._convolve(last, self._snake(bend, x), walk)
        after = [
            Memory(frames + codes.shape[2], tuple(part[row : row + 1] for part in walk.after))
            for row, frames in enumerate(before)
        ]
        return x[:, 0].float().clamp(-1, 1), after

    def _embed(self, codes: Tensor, walk: Walk) -> Tensor:
        """The transformer's input [answers, frames, hidden] of `codes` [answers, codebooks, frames]."""
        embedded: Tensor = self.module.code_embedding(codes + self.module.code_offset).mean(1)
        return embedded

    # --- the transformer ----------------------------------------------------------------------------------------

    def _transformer(self, x: Tensor, before: Sequence[int], walk: Walk) -> Tensor:
        """`x` [answers, frames, hidden], `before` each answer's frames so far."""
        network = self.module.pre_transformer
        past = torch.tensor(before, device=x.device)[:, None]
        new = torch.arange(x.shape[1], device=x.device)
        rotation = network.rotary_emb(x, past + new)
        kept = torch.arange(
            -(self.window - 1), x.shape[1], device=x.device
        )  # the frames of the keys, from here
        distance = new[:, None] - kept
        mask = (distance >= 0) & (distance < self.window) & (kept + past[:, :1, None] >= 0)
        for layer in network.layers:
            attended = self._attend(layer.self_attn, layer.input_layernorm(x), rotation, mask[:, None], walk)
            x = x + layer.self_attn_layer_scale(attended)
            x = x + layer.mlp_layer_scale(layer.mlp(layer.post_attention_layernorm(x)))
        out: Tensor = network.norm(x)
        return out

    def _attend(
        self, attention: Any, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, walk: Walk
    ) -> Tensor:
        q, k, v = (
            project(x).view(*x.shape[:2], -1, attention.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        cos, sin = (angles[:, None] for angles in rotation)
        q, k = q * cos + _half(q) * sin, k * cos + _half(k) * sin
        past = self.window - 1
        keys, values = (walk.joined(one.transpose(2, 3), past, past).transpose(2, 3) for one in (k, v))
        attended = F.scaled_dot_product_attention(q, keys, values, mask, enable_gqa=q.shape[1] != k.shape[1])
        out: Tensor = attention.o_proj(attended.transpose(1, 2).flatten(2))
        return out

    # --- convolutions: `x` [answers, channels, samples] ---------------------------------------------------------

    def _convolve(self, layer: Any, x: Tensor, walk: Walk) -> Tensor:
        past = layer.padding
        whole = walk.joined(x, past, past) if past else x
        out: Tensor = layer.conv(whole)
        return out

    def _upsample(self, layer: Any, x: Tensor, walk: Walk) -> Tensor:
        """Each sample becomes `stride`, which overlap the next one's: they are whole when that is there."""
        overlap = layer.left_pad
        whole = walk.joined(x, 0, 1) if overlap else x
        out: Tensor = layer.conv(whole)
        return out[..., overlap : out.shape[-1] - overlap] if overlap else out

    def _refine(self, layer: Any, x: Tensor, walk: Walk) -> Tensor:
        y = self._convolve(layer.dwconv, x, walk).transpose(1, 2)
        y = layer.gamma * layer.pwconv2(layer.act(layer.pwconv1(layer.norm(y))))
        return x + y.transpose(1, 2)

    def _block(self, layers: Any, x: Tensor, walk: Walk) -> Tensor:
        bend, upsample, *units = layers
        x = self._upsample(upsample, self._snake(bend, x), walk)
        for unit in units:
            y = self._convolve(unit.conv1, self._snake(unit.act1, x), walk)
            x = x + self._convolve(unit.conv2, self._snake(unit.act2, y), walk)
        return x

    def _snake(self, layer: Any, x: Tensor) -> Tensor:
        return snake(x, *self._turns[id(layer)])


def _constants(layer: Any) -> tuple[Tensor, Tensor]:
    """Speed and height [channels] of a layer's `snake`."""
    return layer.alpha.exp(), 1.0 / (layer.beta.exp() + layer.no_div_by_zero)


def _half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def _stacked(memories: Sequence[Memory | None]) -> list[Tensor]:
    known = [one.tensors for one in memories if one is not None]
    if known and len(known) < len(memories):
        raise ValueError("answers that begin and answers that have begun cannot be computed together")
    return [torch.cat(parts) for parts in zip(*known, strict=True)]
