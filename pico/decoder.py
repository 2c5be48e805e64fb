"""A decoder's layers on a batch, as training needs them: the same function as transformers' classes for Qwen2 and for
Qwen2.5-Omni's thinker and talker.

Each place sees itself and those before it: conversations are filled up on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Through = Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor | None]]


def through_layers(
    model: nn.Module, x: Tensor, positions: Tensor, through: Through, looking: Collection[int] = ()
) -> tuple[list[Tensor], list[Tensor]]:
    """Rows `x` [rows, length, width] after each layer of transformers' `model`, before its last norm, and where the first heads
    of the layers `looking` look, [rows, length, length] each.

    `positions` as the model's own rotary embedding takes them; `through` is `through_layer`, or the same compiled.
    """
    turns, mask = model.rotary_emb(x, positions), causal_mask(x.shape[1])
    states: list[Tensor] = []
    looks: list[Tensor] = []
    for index, layer in enumerate(model.layers):
        x, look = through(layer, x, *turns, mask, index in looking)
        states.append(x)
        if look is not None:
            looks.append(look)
    return states, looks


def causal_mask(length: int) -> Tensor:
    """What is added to scores [length, length]: nothing where a place sees, a large negative number where it does not."""
    return torch.full((length, length), -1e9).triu(1)


def through_layer(
    layer: nn.Module, x: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor, looking: bool = False
) -> tuple[Tensor, Tensor | None]:
    """States float32 [rows, length, width] after a layer, and where its first head looks [rows, length, length], if it is
    `looking`.

    `cosines` and `sines` [rows or 1, length, width of a head], as transformers' rotary embedding gives them.
    """
    mixed, looks = _attend(layer.self_attn, normed(x, layer.input_layernorm), cosines, sines, mask)
    x = x + mixed
    y, mlp = normed(x, layer.post_attention_layernorm), layer.mlp
    x = x + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))
    return x, looks[:, 0] if looking else None


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """`x` through transformers' RMS norm."""
    return F.rms_norm(x.float(), norm.weight.shape, norm.weight, norm.variance_epsilon)


def _attend(
    attention: nn.Module, x: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Self-attention without SDPA, whose backward pass is slow on a CPU; heads that share keys are one long query."""
    rows, length, width = x.shape[0], x.shape[1], attention.head_dim
    query, key, value = (
        project(x).unflatten(-1, (-1, width)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    heads, shared = query.shape[1], key.shape[1]
    cosines, sines = cosines[:, None], sines[:, None]
    query = (_turned(query, cosines, sines) * attention.scaling).to(value.dtype)
    key = _turned(key, cosines, sines).to(value.dtype)
    query = query.reshape(rows * shared, heads // shared * length, width)
    key, value = (t.reshape(rows * shared, length, width) for t in (key, value))
    scores = (query @ key.transpose(1, 2)).view(rows, heads, length, length)
    looks = (scores + mask.to(scores.dtype)).softmax(-1)
    mixed = looks.view(rows * shared, heads // shared * length, length) @ value
    mixed = mixed.view(rows, heads, length, width).transpose(1, 2).reshape(rows, length, heads * width)
    return attention.o_proj(mixed), looks


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """The halves of `x` [..., length, width of a head] turned by their places."""
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat([-second, first], -1) * sines
