"""Paged attention in plain torch, on any device: the meaning of `kernels.paged_attention`.

Requests are taken in rectangles (some requests, some of their queries) whose gathered keys and logits fit a budget.
On the CPU, where lengths can be read for free, decoding requests of like length share rectangles and every longer
query has its own. Logits, softmax and sums are float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tutti.kernels.paged import LayerCache, PagedBatch

LOGITS_BUDGET = 2**25  # float32 elements of logits held at once
KEYS_BUDGET = 2**25  # float32 elements of gathered keys held at once


def write_cache(k: Tensor, v: Tensor | None, cache: LayerCache, batch: PagedBatch) -> None:
    """Stores `k` [tokens, kv_heads, key_dim] and `v` (None: a view of the keys) at the batch's slots."""
    block, offset = batch.slots // cache.block_size, batch.slots % cache.block_size
    cache.key[block, :, offset] = k.to(cache.key.dtype)
    if v is not None:
        cache.value[block, :, offset] = v.to(cache.value.dtype)


def paged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor | None,
    cache: LayerCache,
    batch: PagedBatch,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """See `tutti.kernels.paged_attention`."""
    write_cache(k, v, cache, batch)
    tokens = q.shape[0]
    out = q.new_zeros(tokens + 1, q.shape[1], cache.value.shape[-1])  # the last row takes what is padding
    per_key = cache.key.shape[1] * cache.key.shape[3]
    for requests, queries, most_keys in _rectangles(batch, per_key):
        keys, values = _gather(cache, batch, requests, most_keys)
        step = max(1, LOGITS_BUDGET // (len(requests) * q.shape[1] * most_keys))
        for first in range(0, queries, step):
            rows, valid, positions = _query_rows(batch, requests, first, min(queries, first + step))
            inside = rows.clamp(max=tokens - 1)
            seen = _seen(
                positions, None if batch.visible is None else batch.visible[inside], most_keys, window
            )
            seen &= valid[..., None]
            result = _attend(q[inside], keys, values, seen, scale, softcap, sinks)
            out[torch.where(valid, rows, tokens)] = result.to(out.dtype)
    return out[:tokens]


def _rectangles(batch: PagedBatch, per_key: int) -> Iterator[tuple[Tensor, int, int]]:
    """Groups of requests: (their indices [n], the longest query, the longest length)."""
    device, count = batch.lengths.device, batch.lengths.shape[0]
    most = max(1, KEYS_BUDGET // per_key)  # keys of one rectangle
    if device.type != "cpu":  # lengths cannot be read without waiting for the device
        if batch.max_query:
            for part in torch.arange(count, device=device).split(max(1, most // batch.max_length)):
                yield part, batch.max_query, batch.max_length
        return
    lengths, starts = batch.lengths.tolist(), batch.query_starts.tolist()
    single: list[int] = []
    for i in sorted(range(count), key=lengths.__getitem__):
        query = starts[i + 1] - starts[i]
        if query > 1:
            yield torch.tensor([i]), query, lengths[i]
        elif query == 1:
            if single and (len(single) + 1) * lengths[i] > most:
                yield torch.tensor(single), 1, lengths[single[-1]]
                single = []
            single.append(i)
    if single:
        yield torch.tensor(single), 1, lengths[single[-1]]


def _query_rows(batch: PagedBatch, requests: Tensor, first: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries first..end of each request: rows of q, whether they exist, positions; each [n, end - first]."""
    starts, ends = batch.query_starts[requests].long(), batch.query_starts[requests + 1].long()
    offset = torch.arange(first, end, device=starts.device)
    rows = starts[:, None] + offset
    positions = (batch.lengths[requests].long() - (ends - starts))[:, None] + offset
    return rows, rows < ends[:, None], positions


def _gather(cache: LayerCache, batch: PagedBatch, requests: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The requests' keys and values in order, each float32 [n, kv_heads, most, dim]."""
    blocks = -(-most // cache.block_size)
    table = batch.block_table[requests, :blocks].long()
    keys = cache.key[table].transpose(1, 2).flatten(2, 3)[:, :, :most].float()
    values = cache.value[table].transpose(1, 2).flatten(2, 3)[:, :, :most].float()
    return keys, values


def _seen(positions: Tensor, visible: Tensor | None, keys: int, window: int | None) -> Tensor:
    """Which keys each query sees, bool [n, queries, keys]; `positions` and `visible` [n, queries]."""
    at = torch.arange(keys, device=positions.device)
    seen = at <= positions[..., None] if visible is None else at < visible[..., None]
    if window is not None:
        seen &= at > positions[..., None] - window
    return seen


def _attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: Tensor,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """q [n, queries, heads, key_dim], seen [n, queries, keys] -> float32 [n, queries, heads, value_dim]."""
    count, queries, heads, _ = q.shape
    kv_heads = keys.shape[1]
    folded = q.float().view(count, queries, kv_heads, heads // kv_heads, -1).permute(0, 2, 3, 1, 4)
    logits = (
        torch.matmul(folded, keys[:, :, None].transpose(-1, -2)) * scale
    )  # [n, kv_heads, group, queries, keys]
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.masked_fill(~seen[:, None, None], float("-inf"))
    if sinks is not None:
        sink = sinks.float().view(1, kv_heads, -1, 1, 1).expand(count, -1, -1, queries, 1)
        weights = torch.cat((logits, sink), dim=-1).softmax(-1)[..., :-1]
    else:
        weights = logits.softmax(-1)
    values = values.masked_fill(
        ~seen.any(1)[:, None, :, None], 0.0
    )  # what nobody sees may be anything, even NaN
    result = torch.matmul(weights, values[:, :, None])  # [n, kv_heads, group, queries, value_dim]
    return result.permute(0, 3, 1, 2, 4).reshape(count, queries, heads, -1)
