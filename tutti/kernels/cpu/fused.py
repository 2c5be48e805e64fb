"""Blocks and experts on the native kernels: their parts to addresses once, then one call a step."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tutti.kernels.cpu.linear import NativeLinear
from tutti.kernels.cpu.ops import ACTIVATIONS, TYPES, check_batch
from tutti.kernels.fused import FEW, BlockParts, FeedForwardParts, NormParts
from tutti.kernels.linear import PackedLinear, StackedLinear
from tutti.kernels.paged import LayerCache, PagedBatch


class NativeBlock:
    """See `FusedBlock`."""

    def __init__(self, module: ModuleType, parts: BlockParts) -> None:
        """Raises Unjoinable where the kernels do not take a part."""
        attention, feed = parts.attention, parts.feed_forward
        self._parts = parts  # what the kernel reads lives as long as it does
        self._sinks = None if attention.sinks is None else attention.sinks.float().contiguous()
        norms = (
            parts.attention_norm,
            parts.attention_out_norm,
            attention.q_norm,
            attention.k_norm,
            parts.feed_forward_norm,
            parts.feed_forward_out_norm,
        )
        self._run = module.Block(
            [_norm(one) for one in norms], _stack(attention.qkv), _stack(attention.out),
            attention.heads, attention.kv_heads, attention.head_dim,
            attention.scale, attention.window or 0, attention.softcap or 0.0,
            0 if self._sinks is None else self._sinks.data_ptr(),
            ([], [], 0, False) if feed is None else _feed_forward(feed),
        ).run  # fmt: skip
        self._odd = attention.head_dim % 2 == 1

    def takes(self, x: Tensor, batch: PagedBatch, cache: LayerCache) -> bool:
        """See `FusedBlock.takes`."""
        known = x.dtype in TYPES and cache.key.dtype in TYPES and not self._odd
        return known and len(x) <= FEW and batch.visible is None

    def __call__(
        self,
        x: Tensor,
        residual: Tensor | None,
        cos: Tensor | None,
        sin: Tensor | None,
        interleaved: bool,
        batch: PagedBatch,
        cache: LayerCache,
    ) -> tuple[Tensor, Tensor]:
        """See `FusedBlock.__call__`."""
        check_batch(batch)
        x = x.contiguous()
        before = 0
        if residual is not None:
            residual = residual.contiguous()
            before = residual.data_ptr()
        turn = (0, 0, 0, False)
        if cos is not None and sin is not None:
            cos, sin = cos.float().contiguous(), sin.float().contiguous()
            turn = (cos.data_ptr(), sin.data_ptr(), cos.shape[-1], interleaved)
        out, total = torch.empty_like(x), torch.empty_like(x)
        keys, values, table = cache.key, cache.value, batch.block_table
        tokens, width = x.shape
        self._run(
            x.data_ptr(), before, out.data_ptr(), total.data_ptr(), TYPES[x.dtype], width, *turn,
            keys.data_ptr(), *keys.stride()[:3], values.data_ptr(), *values.stride()[:3], TYPES[keys.dtype],
            tokens, keys.shape[2], batch.lengths.shape[0],
            batch.query_starts.data_ptr(), batch.lengths.data_ptr(), table.data_ptr(), table.stride(0),
            batch.slots.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out, total


class NativeExperts:
    """See `FusedExperts`."""

    def __init__(self, module: ModuleType, experts: list[FeedForwardParts]) -> None:
        """Raises Unjoinable where the kernels do not take a part."""
        self._parts = experts
        self._count = len(experts)
        self._mix = module.Experts([_feed_forward(one) for one in experts]).mix

    def __call__(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """See `FusedExperts.__call__`."""
        x, chosen, weights = x.contiguous(), chosen.contiguous(), weights.float().contiguous()
        rows, width = x.shape
        if chosen.dtype != torch.int64 or chosen.shape != weights.shape or len(chosen) != rows:
            raise TypeError("experts are chosen by int64 [tokens, active], and their weights have that shape")
        if chosen.numel() and not 0 <= int(chosen.min()) <= int(chosen.max()) < self._count:
            raise IndexError(f"experts are 0 to {self._count - 1}")
        out = torch.empty_like(x)
        self._mix(
            TYPES[x.dtype], rows, width, chosen.shape[1],
            x.data_ptr(), chosen.data_ptr(), weights.data_ptr(), out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return out


class Unjoinable(Exception):
    """A part that the kernels do not take: the operations one by one do."""


def _stack(linear: PackedLinear) -> list[Any]:
    parts = linear.parts if isinstance(linear, StackedLinear) else [linear]
    found = []
    for part in parts:
        if not isinstance(part, NativeLinear):
            raise Unjoinable(type(part).__name__)
        found.append(part.joined())
    return found


def _feed_forward(parts: FeedForwardParts) -> tuple[Any, ...]:
    if parts.activation not in ACTIVATIONS or (parts.activation == "swiglu_clamped" and not parts.gated):
        raise Unjoinable(parts.activation)
    return _stack(parts.up), _stack(parts.down), ACTIVATIONS[parts.activation], parts.gated


def _norm(parts: NormParts | None) -> tuple[bool, int, int, float, float]:
    if parts is None:
        return False, 0, 0, 0.0, 0.0
    weight = parts.weight
    if weight.dtype not in TYPES or not weight.is_contiguous():
        raise Unjoinable("norm")
    return True, weight.data_ptr(), TYPES[weight.dtype], parts.eps, parts.offset
