"""The network of an encoder of text, over the flattened tokens of several texts: no token is computed for padding.

Linear layers see all tokens of a step as one matrix. Attention is computed for texts of about one length together, in a
rectangle with a mask, and its rows go back to their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels import apply_rope
from tutti.layers.embedding import Embedding
from tutti.layers.feed_forward import FeedForward
from tutti.layers.linear import Linear
from tutti.layers.norm import LayerNorm
from tutti.layers.parameters import Named, Vector, prefixed
from tutti.layers.rope import Rope, Rotation
from tutti.models.encoders.shape import EncoderConfig

_GRAIN = 16  # tokens: texts whose lengths round up to the same multiple are attended together


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Texts of about one length.

    `rows` int64 [texts, longest] says which token of the step stands where (0 where none does); `mask` bool
    [texts, 1, 1, longest] where one does, None where all are equally long; `places` int64 [tokens] is where in the
    rectangle, read line by line, each of its tokens stands, and `tokens` int64 [tokens] which these are.
    """

    rows: Tensor
    mask: Tensor | None
    places: Tensor
    tokens: Tensor


def rectangles(lengths: Sequence[int], device: torch.device) -> list[Rectangle]:
    """The rectangles of texts of these lengths, which lie one behind the other in a step."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    alike: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        alike.setdefault(-(-length // _GRAIN), []).append(number)
    found = []
    for numbers in alike.values():
        counts = np.array([lengths[number] for number in numbers])
        steps = np.arange(counts.max())
        there = steps < counts[:, None]
        rows = np.where(there, starts[numbers][:, None] + steps, 0)
        places = np.flatnonzero(there)
        arrays = (rows, places, rows.ravel()[places])
        rows_, places_, tokens_ = (torch.from_numpy(one).to(device) for one in arrays)
        mask = None if there.all() else torch.from_numpy(there).to(device)[:, None, None]
        found.append(Rectangle(rows_, mask, places_, tokens_))
    return found


class Layer:
    """Attention of all tokens of a text to each other, and feed-forward (Vaswani et al. 2017)."""

    def __init__(self, config: EncoderConfig) -> None:
        width = config.heads * config.head_dim
        self.heads, self.head_dim = config.heads, config.head_dim
        self.qkv = Linear(config.hidden, width, width, width, bias=config.bias)
        self.out = Linear(width, config.hidden, bias=config.bias)
        self.attention_norm = LayerNorm(config.hidden, config.norm)
        self.feed_forward = FeedForward(config.hidden, config.feed_forward)
        self.feed_forward_norm = LayerNorm(config.hidden, config.norm)

    def parameters(self) -> Named:
        """`qkv`, `out`, `feed_forward.*` and the norms behind them."""
        yield "qkv", self.qkv
        yield "out", self.out
        yield "attention_norm", self.attention_norm
        yield from prefixed("feed_forward", self.feed_forward.parameters())
        yield "feed_forward_norm", self.feed_forward_norm

    def __call__(self, x: Tensor, rotation: Rotation | None, shapes: Sequence[Rectangle]) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, self.head_dim).unbind(1)
        if rotation is not None:
            q, k = apply_rope(q, k, rotation.cos, rotation.sin, interleaved=rotation.interleaved)
        x = self.attention_norm(x + self.out(self._attend(q, k, v, shapes)))
        return self.feed_forward_norm(x + self.feed_forward(x))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, shapes: Sequence[Rectangle]) -> Tensor:
        """softmax(q k^T / sqrt(head_dim)) v of each text; q, k, v [tokens, heads, head_dim] -> [tokens, width]."""
        out = torch.empty(len(q), self.heads * self.head_dim, dtype=q.dtype, device=q.device)
        for shape in shapes:
            queries, keys, values = (one[shape.rows].transpose(1, 2) for one in (q, k, v))
            seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=shape.mask)
            out[shape.tokens] = seen.transpose(1, 2).flatten(0, 1).flatten(1)[shape.places]
        return out


class TextEncoder:
    """Embeddings of tokens, segments and positions, their norm, and the layers."""

    def __init__(self, config: EncoderConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.embed = Embedding(config.vocab, config.hidden)
        self.types = Vector(config.types, config.hidden, suffix="weight")
        self.places = Vector(config.places, config.hidden, suffix="weight") if config.places else None
        self.norm = LayerNorm(config.hidden, config.norm)
        self.rope = None if config.rope is None else Rope(config.rope, config.context, device)
        self.layers = [Layer(config) for _ in range(config.layers)]

    def parameters(self) -> Named:
        """`embed`, `types`, `places` (where there are), `norm` and `layers.N.*`."""
        yield "embed", self.embed
        yield "types", self.types
        if self.places is not None:
            yield "places", self.places
        yield "norm", self.norm
        for number, layer in enumerate(self.layers):
            yield from prefixed(f"layers.{number}", layer.parameters())

    def __call__(self, ids: Sequence[Sequence[int]], seconds: Sequence[int]) -> Tensor:
        """The hidden states [tokens, hidden] of texts that lie one behind the other.

        The tokens of text i from `seconds[i]` on, if that is not 0, are of its second segment.
        """
        lengths = [len(text) for text in ids]
        positions = np.concatenate([np.arange(length) for length in lengths])
        tokens = np.concatenate([np.asarray(text, dtype=np.int64) for text in ids])
        x = self.embed(torch.from_numpy(tokens).to(self.device))
        x = x + self._segments(positions, lengths, seconds)
        at = torch.from_numpy(positions).to(self.device)
        if self.places is not None:
            x = x + self.places.tensor[at + self.config.first]
        x = self.norm(x)
        rotation = None if self.rope is None else self.rope(at)
        shapes = rectangles(lengths, self.device)
        for layer in self.layers:
            x = layer(x, rotation, shapes)
        return x

    def _segments(self, positions: np.ndarray, lengths: Sequence[int], seconds: Sequence[int]) -> Tensor:
        """What tells the segments apart, [tokens, hidden], or [hidden] where there is one."""
        if self.config.types < 2 or not any(seconds):
            return self.types.tensor[0]
        ends = np.array([second or length for second, length in zip(seconds, lengths, strict=True)])
        later = positions >= np.repeat(ends, lengths)
        return self.types.tensor[torch.from_numpy(later.astype(np.int64)).to(self.device)]
