"""What blocks of transformers that draw are made of, in few passes over memory.

diffusers' blocks are many small operations, and each of them reads and writes all tokens: of a step on a CPU they take
as long as the matrices. Here norm, scale and shift are one pass, a gate and the sum it goes into another, and queries
and keys are turned where they stand. The weights are those of diffusers' modules, and linear layers are called as
modules, so that what is hung on them (adapters, quantized weights) counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from tutti.kernels import (
    Dense,
    activate,
    apply_rope,
    attention,
    gated_sum,
    modulated_norm,
    pack_linear,
    rms_norm,
)
from tutti.layers.packed import PackedModule

_PACKED = ("cpu", torch.bfloat16)

Turns = tuple[Tensor, Tensor]
"""Cosines and sines of tokens' places, float32 [tokens, head_dim / 2]: neighbouring columns turn together."""


def replace_forward(blocks: Any, forward: Callable[..., Any]) -> None:
    """Have each of `blocks` compute `forward(block, ...)` instead of its class's, on packed linear layers."""
    blocks = list(blocks)
    pack_linears(blocks)
    for block in blocks:
        block.forward = MethodType(forward, block)


def pack_linears(blocks: Any) -> None:
    """Have the linear layers of `blocks` packed, where that is what a CPU multiplies best: in bfloat16."""
    for block in blocks:
        for path, layer in list(block.named_modules()):
            if type(layer) is not nn.Linear or (layer.weight.device.type, layer.weight.dtype) != _PACKED:
                continue
            bias = None if layer.bias is None else layer.bias.detach()
            weight = layer.weight.detach()
            packed = pack_linear(Dense(weight), bias, device=weight.device, dtype=weight.dtype)
            block.set_submodule(path, PackedModule(packed, weight))


class Places(nn.Module):
    """A network's positions, given in another form than diffusers' module `places` has."""

    def __init__(self, places: nn.Module) -> None:
        super().__init__()
        self.places = places


def restore(net: Any) -> None:
    """Have `net` compute its blocks and positions as diffusers does again, which is what diffusers' hooks know."""
    for module in net.modules():
        module.__dict__.pop("forward", None)
    for name, module in list(net.named_children()):
        if isinstance(module, Places):
            setattr(net, name, module.places)


class Groups:
    """Tokens of which neighbours have the same scales, shifts and gates: [tokens, width], in groups of `lengths`."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.starts = _starts(tuple(lengths), device)

    @classmethod
    def of(cls, x: Tensor) -> Groups:
        """Each row of `x` [rows, tokens, width] is a group."""
        return cls([x.shape[1]] * len(x), x.device)

    def norm(self, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        """layer_norm(x) * (1 + scale) + shift: `x` [..., width], `scale` and `shift` [groups, width]."""
        return modulated_norm(x.flatten(0, -2), scale, shift, self.starts, eps, centered=True).view(x.shape)

    def rms_norm(self, x: Tensor, norm: Any, scale: Tensor | None) -> Tensor:
        """rms_norm(x) * (1 + scale), with the weight and eps of diffusers' `norm`."""
        found = modulated_norm(x.flatten(0, -2), scale, None, self.starts, norm.eps, weight=norm.weight)
        return found.view(x.shape)

    def add(self, x: Tensor, y: Tensor, gate: Tensor | None, norm: Any = None) -> Tensor:
        """x + gate * y, of rms_norm(y) with a `norm`: `x`, `y` [..., width], `gate` [groups, width]."""
        weight, eps = (None, 0.0) if norm is None else (norm.weight, norm.eps)
        rows = x.flatten(0, -2), y.flatten(0, -2)
        return gated_sum(*rows, gate, self.starts, weight=weight, eps=eps).view(x.shape)

    def end(self, x: Tensor, mixed: Tensor, time: Sequence[Tensor], norm: Any, layer: Any) -> Tensor:
        """The end of a block, behind its attention: `mixed` is added to `x`, and what `layer` feeds forward.

        `time` are the gate of the one, then shift, scale and gate of the other, [groups, width] each.
        """
        gate, shift, scale, feed_gate = time
        x = self.add(x, mixed, gate)
        return self.add(x, feed(layer, self.norm(x, scale, shift, norm.eps)), feed_gate)


@lru_cache(maxsize=64)
def _starts(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)


def heads(layer: nn.Module, x: Tensor, count: int, norm: Any = None) -> Tensor:
    """layer(x) [..., tokens, width] as [..., tokens, count, head_dim], each head under diffusers' RMS `norm`."""
    found: Tensor = layer(x).unflatten(-1, (count, -1))
    if norm is None:
        return found
    return rms_norm(found.flatten(0, -3), norm.weight, norm.eps).view(found.shape)


def turn(query: Tensor, key: Tensor, turns: Turns) -> tuple[Tensor, Tensor]:
    """`query` and `key` [tokens, heads, head_dim], or rows of them with the same places, turned where they stand."""
    tokens, shape = query.flatten(0, -3), query.shape
    cos, sin = (one.repeat(len(tokens) // len(one), 1) for one in turns)
    query, key = apply_rope(tokens, key.flatten(0, -3), cos, sin, interleaved=True)
    return query.view(shape), key.view(shape)


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
    """Attention within each row: [rows, tokens, heads, head_dim] -> [rows, tokens, heads * head_dim].

    Of each row only the first `lengths` tokens are there; what the others give means nothing.
    """
    rows, tokens = query.shape[:2]
    if lengths is None or min(lengths) == tokens:
        query, key, value = (one.flatten(0, 1) for one in (query, key, value))
        return attention(query, key, value, [tokens] * rows).view(rows, tokens, -1)
    mixed = torch.zeros_like(query)
    for row, length in enumerate(lengths):
        own = slice(length)
        mixed[row, own] = attention(query[row, own], key[row, own], value[row, own], [length])
    return mixed.flatten(2)


def joint(
    attn: Any,
    hidden: Tensor,
    text: Tensor,
    turns: tuple[Turns, Turns] | None = None,
    lengths: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of two streams as one, (of `hidden`, of `text`), each with its own matrices in diffusers' `attn`.

    `turns` are the places of `hidden` and of `text`. Of each row of `text` the first `lengths` tokens are there (None:
    all). Where the block is the last one of the text, nothing is made of what it saw.
    """
    count = attn.heads
    query = (
        heads(attn.to_q, hidden, count, attn.norm_q),
        heads(attn.add_q_proj, text, count, attn.norm_added_q),
    )
    key = heads(attn.to_k, hidden, count, attn.norm_k), heads(attn.add_k_proj, text, count, attn.norm_added_k)
    value = heads(attn.to_v, hidden, count), heads(attn.add_v_proj, text, count)
    if turns is not None:
        own, other = turn(query[0], key[0], turns[0]), turn(query[1], key[1], turns[1])
        query, key = (own[0], other[0]), (own[1], other[1])
    seen = hidden.shape[1]
    if lengths is not None:
        lengths = [seen + length for length in lengths]
    mixed = attend(torch.cat(query, 1), torch.cat(key, 1), torch.cat(value, 1), lengths)
    out, told = attn.to_out[0](mixed[:, :seen].contiguous()), mixed[:, seen:]
    return out, told if attn.context_pre_only else attn.to_add_out(told.contiguous())


def feed(layer: Any, x: Tensor) -> Tensor:
    """diffusers' `FeedForward` of kind "gelu-approximate"."""
    found: Tensor = layer.net[2](activate(layer.net[0].proj(x), "gelu_tanh"))
    return found


def turns_of(cosines: Tensor, sines: Tensor) -> Turns:
    """`Turns` of cosines and sines."""
    return cosines.float().contiguous(), sines.float().contiguous()
