"""How tokens look at pictures: attention over rows that are not tokens, in gated layers between the others.

From a picture on, tokens look at its own tiles. Tokens before the first picture have nothing to look at, and yet they
look: at all rows there are, those of empty tiles among them, and pass no feed-forward; so transformers computes it, and
so the published weights are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.layers.linear import Linear
from tutti.layers.norm import make_norm
from tutti.layers.parameters import Named, Vector, prefixed
from tutti.models.block import make_feed_forward
from tutti.models.config import DecoderConfig
from tutti.models.mllama.config import SightConfig


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One layer's keys and values of a request's pictures, each [kv_heads, rows, head_dim]."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """The tokens from `start` to `stop` look at a picture, whose own tiles are the rows from `first` to `last`."""

    start: float
    stop: float
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Look:
    """The tokens from `first` to `last` of a step look at `rows` of request `request`, all of them without `rows`.

    `rows` are the (first, last) of one or more pictures.
    """

    request: int
    first: int
    last: int
    rows: tuple[tuple[int, int], ...]


def looks(request: int, places: Sequence[Place], start: int, stop: int, offset: int) -> list[Look]:
    """What the tokens from `start` to `stop` of a request look at; `offset` leads from them to the step's tokens."""
    edges = {edge for place in places for edge in (place.start, place.stop) if start < edge < stop}
    cuts = [start, *sorted(map(int, edges)), stop]
    return [
        Look(
            request,
            low + offset,
            high + offset,
            tuple((place.first, place.last) for place in places if place.start <= low < place.stop),
        )
        for low, high in pairwise(cuts)
    ]


class PictureAttention:
    """Attention of tokens over the rows of their request's pictures, heads of queries and keys normed."""

    def __init__(self, hidden: int, sight: SightConfig) -> None:
        attention = sight.attention
        assert attention.qk_norm is not None
        self.heads, self.kv_heads = attention.heads, attention.kv_heads
        self.head_dim, self.scale = attention.head_dim, attention.scale
        width = self.kv_heads * self.head_dim
        self.query = Linear(hidden, self.heads * self.head_dim)
        self.key_value = Linear(hidden, width, width)
        self.out = Linear(self.heads * self.head_dim, hidden)
        self.q_norm = make_norm(self.head_dim, attention.qk_norm)
        self.k_norm = make_norm(self.head_dim, attention.qk_norm)

    def parameters(self) -> Named:
        """`query`, `key_value` (slots key, value), `out`, `q_norm` and `k_norm`."""
        yield "query", self.query
        yield "key_value", self.key_value
        yield "out", self.out
        yield "q_norm", self.q_norm
        yield "k_norm", self.k_norm

    def remember(self, rows: Tensor) -> KeyValue:
        """The keys and values of `rows` [rows, hidden]."""
        key, value = self.key_value(rows).view(len(rows), 2, self.kv_heads, self.head_dim).unbind(1)
        key = self.k_norm(key.contiguous())
        return KeyValue(key.transpose(0, 1).contiguous(), value.transpose(0, 1).contiguous())

    def __call__(self, x: Tensor, views: Sequence[Look], kept: Sequence[KeyValue]) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]; every token is in one of the views, in order."""
        queries = self.q_norm(self.query(x).view(len(x), self.heads, self.head_dim)).transpose(0, 1)
        seen = [self._look(queries[:, view.first : view.last], view, kept[view.request]) for view in views]
        return self.out(torch.cat(seen, 1).transpose(0, 1).flatten(1))

    def _look(self, queries: Tensor, view: Look, kept: KeyValue) -> Tensor:
        """`queries` [heads, tokens, head_dim] -> the same shape."""
        first = min((low for low, _ in view.rows), default=0)
        last = max((high for _, high in view.rows), default=kept.key.shape[1])
        mask = None
        if sum(high - low for low, high in view.rows) < last - first and view.rows:
            mask = torch.zeros(
                1, last - first, dtype=torch.bool, device=queries.device
            )  # of empty tiles between
            for low, high in view.rows:
                mask[:, low - first : high - first] = True
        key, value = kept.key[None, :, first:last], kept.value[None, :, first:last]
        return F.scaled_dot_product_attention(
            queries[None], key, value, attn_mask=mask, scale=self.scale, enable_gqa=True
        )[0]


class PictureLayer:
    """Attention over pictures, then feed-forward, each normed before and multiplied by the tanh of a learned gate."""

    def __init__(self, config: DecoderConfig, sight: SightConfig) -> None:
        self.pictures_norm = make_norm(config.hidden, config.norm)
        self.pictures = PictureAttention(config.hidden, sight)
        self.pictures_gate = Vector(1)
        self.feed_forward_norm = make_norm(config.hidden, config.norm)
        self.feed_forward = make_feed_forward(config.hidden, config.layers[0].feed_forward)
        self.feed_forward_gate = Vector(1)

    def parameters(self) -> Named:
        """`pictures.*`, `feed_forward.*`, their gates and norms; the first norm has the name it has elsewhere."""
        yield "attention_norm", self.pictures_norm
        yield from prefixed("pictures", self.pictures.parameters())
        yield "pictures_gate", self.pictures_gate
        yield "feed_forward_norm", self.feed_forward_norm
        yield from prefixed("feed_forward", self.feed_forward.parameters())
        yield "feed_forward_gate", self.feed_forward_gate

    def __call__(self, x: Tensor, views: Sequence[Look], kept: Sequence[KeyValue]) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden], the residual stream with what was seen."""
        x = x + self.pictures_gate.tensor.tanh() * self.pictures(self.pictures_norm(x), views, kept)
        passed = self.feed_forward_gate.tensor.tanh() * self.feed_forward(self.feed_forward_norm(x))
        for view in views:
            if not view.rows:
                passed[view.first : view.last] = 0
        return x + passed
