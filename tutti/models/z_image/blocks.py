"""Z-Image's blocks of one stream over packed rows, in few passes over memory (see `drawing.blocks`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutti.kernels import gated
from tutti.models.drawing.blocks import Groups, Turns, attend, heads, turn


def through(
    block: Any,
    tokens: Tensor,
    groups: Groups,
    lengths: Sequence[int],
    turns: Turns,
    moment: Tensor | None = None,
) -> Tensor:
    """`tokens` [tokens, width] of rows of such `lengths`, laid end to end, after diffusers' `block`.

    `groups` are the rows. `moment` [rows, width] is what the network made of each row's time; captions have none.
    """
    scale = gate = feed_scale = feed_gate = None
    if moment is not None:
        scale, gate, feed_scale, feed_gate = block.adaLN_modulation(moment).chunk(4, dim=1)
        gate, feed_gate = gate.tanh(), feed_gate.tanh()
    mixed = _attend(block.attention, groups.rms_norm(tokens, block.attention_norm1, scale), lengths, turns)
    tokens = groups.add(tokens, mixed, gate, block.attention_norm2)
    fed = _feed(block.feed_forward, groups.rms_norm(tokens, block.ffn_norm1, feed_scale))
    return groups.add(tokens, fed, feed_gate, block.ffn_norm2)


def _attend(attn: Any, tokens: Tensor, lengths: Sequence[int], turns: Turns) -> Tensor:
    """Each row looks at itself alone."""
    query = heads(attn.to_q, tokens, attn.heads, attn.norm_q)
    key = heads(attn.to_k, tokens, attn.heads, attn.norm_k)
    query, key = turn(query, key, turns)
    value = heads(attn.to_v, tokens, attn.heads)
    count = 1
    if len(set(lengths)) == 1:  # as a batch
        count = len(lengths)
    parts = [one.unflatten(0, (count, -1)) for one in (query, key, value)]
    if count == len(lengths):
        mixed = attend(*parts).flatten(0, 1)
    else:
        rows = zip(*(one.split(tuple(lengths), dim=1) for one in parts), strict=True)
        mixed = torch.cat([attend(*row)[0] for row in rows])
    found: Tensor = attn.to_out[0](mixed)
    return found


def _feed(layer: Any, x: Tensor) -> Tensor:
    found: Tensor = layer.w2(gated(layer.w1(x), "silu", layer.w3(x)))
    return found
