"""Several operations as one call: what they are made of, and what a kernel makes of it.

A step of few rows spends more time between operations than in them. `choose` joins them where a device has a kernel for
the whole; the numbers are those of the operations one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tutti.kernels.linear import PackedLinear
from tutti.kernels.paged import LayerCache, PagedBatch

FEW = 64  # rows; in larger steps the operations themselves take the time, and their memory


@dataclass(frozen=True, slots=True)
class NormParts:
    """An RMS norm, as `ops.rms_norm` takes it."""

    weight: Tensor
    eps: float
    offset: float


@dataclass(frozen=True, slots=True)
class AttentionParts:
    """Attention over the paged cache between two projections, as `ops.paged_attention` takes it.

    `qkv` gives queries, keys and values side by side, heads of `head_dim` columns.
    """

    qkv: PackedLinear
    out: PackedLinear
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None
    softcap: float | None
    sinks: Tensor | None
    q_norm: NormParts | None
    k_norm: NormParts | None


@dataclass(frozen=True, slots=True)
class FeedForwardParts:
    """down(act(up(x))), or with `gated` down(act(gate) * up) of what `up` gives."""

    up: PackedLinear
    down: PackedLinear
    activation: str
    gated: bool


@dataclass(frozen=True, slots=True)
class BlockParts:
    """Attention and feed-forward on a residual stream, each normed before, after, both or not."""

    attention: AttentionParts
    feed_forward: FeedForwardParts | None  # None: the block ends with what it would be given
    attention_norm: NormParts | None
    attention_out_norm: NormParts | None
    feed_forward_norm: NormParts | None
    feed_forward_out_norm: NormParts | None


class FusedBlock(Protocol):
    """A block in one call."""

    def takes(self, x: Tensor, batch: PagedBatch, cache: LayerCache) -> bool:
        """Whether it serves this step; where it does not, its parts do."""
        ...

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
        """`x`, `residual` [tokens, hidden] -> the same pair; `cos`, `sin` as `ops.apply_rope` takes them."""
        ...


class FusedExperts(Protocol):
    """The experts of a mixture in one call."""

    def __call__(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Sum over a token's experts of weight * expert(x), in the order given: [tokens, hidden].

        `x` [tokens, hidden]; `chosen` int64 [tokens, active], `weights` float32 alike.
        """
        ...
