"""Z-Image's blocks of one stream over packed rows, in few passes over memory (see `drawing.blocks`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tutti.kernels import attention, gated
from tutti.models.drawing.blocks import Groups, Turns, heads, turn


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
    found: Tensor = attn.to_out[0](attention(query, key, value, lengths).flatten(1))
    return found


def _feed(layer: Any, x: Tensor) -> Tensor:
    found: Tensor = layer.w2(gated(layer.w1(x), "silu", layer.w3(x)))
    return found
