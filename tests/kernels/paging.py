"""Steps of requests over a paged cache, made by hand: what the attention tests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tutti.kernels import LayerCache, PagedBatch


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one attention layer. `value_dim` None: values are the first columns of the keys, `shared` many."""

    heads: int = 4
    kv_heads: int = 2
    key_dim: int = 16
    value_dim: int = 16
    block_size: int = 16
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A step's tensors; `history` holds each request's whole keys and values [length, kv_heads, dim]."""

    shape: Shape
    q: Tensor
    k: Tensor
    v: Tensor | None
    cache: LayerCache
    batch: PagedBatch
    history: tuple[tuple[Tensor, Tensor], ...]

    def copy(self) -> Step:
        """The same with a cache of its own."""
        key = self.cache.key.clone()
        value = key[..., : self.shape.value_dim] if self.shape.shared else self.cache.value.clone()
        return replace(self, q=self.q.clone(), k=self.k.clone(), cache=LayerCache(key, value))


def make_step(
    requests: Sequence[tuple[int, int]],
    shape: Shape = Shape(),
    *,
    dtype: torch.dtype = torch.float32,
    cache_dtype: torch.dtype | None = None,
    seed: int = 0,
    garbage: float = float("nan"),
    common: int = 0,
) -> Step:
    """`requests`: (tokens computed before, queries now) of each. Unused slots hold `garbage`.

    Requests that have computed `common` tokens (whole blocks) have those of the first such request, in its blocks.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(dtype)

    lengths = [before + query for before, query in requests]
    needed = [-(-length // shape.block_size) for length in lengths]
    blocks = sum(needed) + 3
    order = (torch.randperm(blocks - 1, generator=generator) + 1).tolist()
    table = torch.zeros(len(requests), max([1, *needed]), dtype=torch.int32)
    size = (blocks, shape.kv_heads, shape.block_size)
    key = torch.full((*size, shape.key_dim), garbage, dtype=cache_dtype or dtype)
    value = key[..., : shape.value_dim] if shape.shared else key.new_full((*size, shape.value_dim), garbage)
    slots, history, new_keys, new_values = [], [], [], []
    first: int | None = None  # of those with the common beginning
    for i, (before, _) in enumerate(requests):
        keys = random(lengths[i], shape.kv_heads, shape.key_dim)
        values = (
            keys[..., : shape.value_dim]
            if shape.shared
            else random(lengths[i], shape.kv_heads, shape.value_dim)
        )
        shares = 0 < common <= before
        if shares and first is not None:
            keys[:common], values[:common] = history[first][0][:common], history[first][1][:common]
        for b in range(needed[i]):
            inherited = shares and first is not None and b < common // shape.block_size
            table[i, b] = table[first, b] if inherited else order.pop()
        if shares and first is None:
            first = i
        at = torch.arange(lengths[i])
        block, offset = table[i, at // shape.block_size].long(), at % shape.block_size
        key[block[:before], :, offset[:before]] = keys[:before].to(key.dtype)
        if not shape.shared:
            value[block[:before], :, offset[:before]] = values[:before].to(key.dtype)
        slots.append((block * shape.block_size + offset)[before:])
        history.append((keys, values))
        new_keys.append(keys[before:])
        new_values.append(values[before:])
    queries = [query for _, query in requests]
    batch = PagedBatch(
        query_starts=torch.tensor([0, *torch.tensor(queries).cumsum(0)], dtype=torch.int32),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        block_table=table,
        slots=torch.cat(slots),
        max_query=max(queries),
        max_length=max(lengths),
    )
    q = random(sum(queries), shape.heads, shape.key_dim)
    v = None if shape.shared else torch.cat(new_values)
    return Step(shape, q, torch.cat(new_keys), v, LayerCache(key, value), batch, tuple(history))


def plain_attention(
    step: Step,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The same attention in float64, one request and head at a time, straight from the definition."""
    shape = step.shape
    out = torch.zeros(step.q.shape[0], shape.heads, shape.value_dim, dtype=torch.float64)
    starts = step.batch.query_starts.tolist()
    for i, (keys, values) in enumerate(step.history):
        length = keys.shape[0]
        rows = slice(starts[i], starts[i + 1])
        position = torch.arange(length - (starts[i + 1] - starts[i]), length)[:, None]
        at = torch.arange(length)
        last = position if step.batch.visible is None else step.batch.visible[rows, None] - 1
        seen = (at <= last) & (at > position - (window or length + 1))
        for head in range(shape.heads):
            kv_head = head * shape.kv_heads // shape.heads
            logits = step.q[rows, head].double() @ keys[:, kv_head].double().T * scale
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            logits = logits.masked_fill(~seen, float("-inf"))
            if sinks is not None:
                sink = sinks[head].double().expand(logits.shape[0], 1)
                weights = torch.cat((logits, sink), dim=1).softmax(1)[:, :-1]
            else:
                weights = logits.softmax(1)
            out[rows, head] = weights @ values[:, kv_head].double()
    return out
