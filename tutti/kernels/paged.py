"""The paged KV cache as kernels see it: where a step's tokens live.

Plain values of tensors. The engine fills them (`engine.kv`), attention reads them, nobody else does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's cache.

    `key`: [blocks, kv_heads, block_size, key_dim]; `value`: [blocks, kv_heads, block_size, value_dim], for latent
    attention a view of `key`'s first columns. Block 0 is never given to a request: what is masked may point there.
    """

    key: Tensor
    value: Tensor

    @property
    def block_size(self) -> int:
        """Tokens per block."""
        return self.key.shape[2]


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """A step's requests in one KV group, flattened: request i owns the tokens query_starts[i]:query_starts[i+1].

    Drawn for one request (`length` counts this step's tokens too):

        |-- computed before --|-- this step's queries --|
        0                     length - query            length

    A query sees the keys up to its own position. `visible`, where it is given, says for every query how many of the
    request's keys it sees instead, never fewer: the tokens of a picture may look at each other both ways.
    """

    query_starts: Tensor  # int32 [requests + 1]
    lengths: Tensor  # int32 [requests]: KV tokens of each request after this step
    block_table: Tensor  # int32 [requests, max_blocks]: logical block -> block; 0 where nothing is held
    slots: Tensor  # int64 [tokens]: block * block_size + offset where each token's KV is written
    max_query: int  # the longest query of the step, in tokens; 1: decode only
    max_length: int  # the longest of `lengths`
    visible: Tensor | None = None  # int32 [tokens]

    def to(self, device: torch.device | str) -> PagedBatch:
        """The same batch on `device`."""
        return PagedBatch(
            self.query_starts.to(device, non_blocking=True),
            self.lengths.to(device, non_blocking=True),
            self.block_table.to(device, non_blocking=True),
            self.slots.to(device, non_blocking=True),
            self.max_query,
            self.max_length,
            None if self.visible is None else self.visible.to(device, non_blocking=True),
        )
