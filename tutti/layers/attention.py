"""Grouped-query attention over the paged cache, with what published models add to it.

Merged projections, per-head norms of queries and keys, rotary positions, sliding windows, soft caps and sinks: each is
chosen by the config. The arithmetic is the kernels'.
"""

from __future__ import annotations

from torch import Tensor

from tutti.kernels import apply_rope, paged_attention
from tutti.kernels.fused import AttentionParts
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.layers.config import AttentionConfig
from tutti.layers.linear import Linear
from tutti.layers.norm import LayerNorm, Norm, RMSNorm, make_norm
from tutti.layers.parameters import Named, Vector
from tutti.layers.rope import Rotation


class Attention:
    """softmax(q k^T * scale) v with `heads` query heads on `kv_heads` KV heads (Ainslie et al. 2023)."""

    def __init__(self, hidden: int, config: AttentionConfig) -> None:
        self.head_dim = config.head_dim
        self.split = (config.heads, config.kv_heads, config.kv_heads)
        self.total = sum(self.split)
        self.scale = config.scale
        self.window = config.window
        self.softcap = config.softcap
        widths = (heads * config.head_dim for heads in self.split)
        self.qkv = Linear(hidden, *widths, bias=config.bias)
        self.out = Linear(config.heads * config.head_dim, hidden, bias=config.out_bias)
        self.q_norm: Norm | None = None
        self.k_norm: Norm | None = None
        if config.qk_norm is not None:
            self.q_norm = make_norm(config.head_dim, config.qk_norm)
            self.k_norm = make_norm(config.head_dim, config.qk_norm)
        self.sinks = Vector(config.heads) if config.sinks else None

    def parameters(self) -> Named:
        """`qkv` (slots q, k, v), `out`, and `q_norm`, `k_norm`, `sinks` where the config asks for them."""
        yield "qkv", self.qkv
        yield "out", self.out
        if self.q_norm is not None and self.k_norm is not None:
            yield "q_norm", self.q_norm
            yield "k_norm", self.k_norm
        if self.sinks is not None:
            yield "sinks", self.sinks

    def parts(self) -> AttentionParts | None:
        """For a kernel that does more than this; None where an adapter or another kind of norm takes part."""
        qkv, out = self.qkv.alone, self.out.alone
        norms = self.q_norm, self.k_norm
        if qkv is None or out is None or any(isinstance(norm, LayerNorm) for norm in norms):
            return None
        heads, kv_heads, _ = self.split
        return AttentionParts(
            qkv,
            out,
            heads,
            kv_heads,
            self.head_dim,
            self.scale,
            self.window,
            self.softcap,
            None if self.sinks is None else self.sinks.tensor,
            *(norm.parts() if isinstance(norm, RMSNorm) else None for norm in norms),
        )

    def __call__(self, x: Tensor, rotation: Rotation | None, batch: PagedBatch, cache: LayerCache) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]; writes this step's keys and values to the cache."""
        q, k, v = self.qkv(x).view(-1, self.total, self.head_dim).split(self.split, 1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = apply_rope(q, k, rotation.cos, rotation.sin, interleaved=rotation.interleaved)
        attended = paged_attention(
            q,
            k,
            v,
            cache,
            batch,
            scale=self.scale,
            window=self.window,
            softcap=self.softcap,
            sinks=None if self.sinks is None else self.sinks.tensor,
        )
        return self.out(attended.flatten(1))
