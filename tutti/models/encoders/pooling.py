"""From the hidden states of a text to its vector or its scores: pooling, layers behind it, normalization."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import open_weights
from tutti.layers.linear import Linear
from tutti.layers.parameters import LoadOptions, Named
from tutti.models.encoders.shape import HeadConfig
from tutti.models.processor.pooling import DenseConfig, PoolingConfig
from tutti.models.weights import PlainSource, load
from tutti.request import PoolingParams

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Tanh": torch.tanh,
    "Identity": lambda x: x,
    "ReLU": torch.relu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "Sigmoid": torch.sigmoid,
    "Softmax": lambda x: x.softmax(-1),
}


class Maker(Protocol):
    """What makes a step's vectors of its hidden states."""

    width: int  # of a vector

    def pool(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """Float32 [texts, width] of hidden states [tokens, hidden] of texts of these lengths."""
        ...

    def finish(self, pooled: Tensor, wishes: PoolingParams) -> Tensor:
        """What the caller gets of one of them. See `Pools.finish`."""
        ...


class Dense:
    """A linear layer and its activation."""

    def __init__(self, config: DenseConfig, options: LoadOptions) -> None:
        """With the weights of its folder. Raises CheckpointError."""
        self.linear = Linear(config.inputs, config.outputs, bias=config.bias)
        self.activation = _activation(config.activation)
        source = PlainSource(open_weights(config.folder))
        load([("linear", self.linear)], {"linear": "linear"}, source, options)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [texts, inputs] -> [texts, outputs]."""
        return self.activation(self.linear(x))


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """torch's activation of that name. Raises CheckpointError."""
    if name not in _ACTIVATIONS:
        raise CheckpointError(f"the activation {name!r} is not supported; known: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


class Embedder:
    """Vectors of texts, as `config` says; see `Maker`."""

    def __init__(self, config: PoolingConfig, hidden: int, options: LoadOptions) -> None:
        self.config = config
        self.dtype = options.dtype
        self.dense = [Dense(one, options) for one in config.dense]
        self.width = config.dense[-1].outputs if config.dense else hidden

    def pool(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """See `Maker.pool`."""
        pooled = _pooled(hidden.float(), lengths, self.config.kind)
        for layer in self.dense:
            pooled = layer(pooled.to(self.dtype)).float()
        return pooled

    def finish(self, pooled: Tensor, wishes: PoolingParams) -> Tensor:
        """See `Maker.finish`; a shorter vector is normalized after it was cut."""
        pooled = pooled[: wishes.dimensions]
        normalize = self.config.normalize if wishes.normalize is None else wishes.normalize
        return F.normalize(pooled, dim=-1) if normalize else pooled


class Classifier:
    """Scores of texts or pairs, by their first token; see `Maker`."""

    def __init__(self, config: HeadConfig, hidden: int) -> None:
        self.activation = _activation(config.activation)
        self.width = config.labels
        self.dense = Linear(hidden, hidden, bias=True)
        self.out = Linear(hidden, config.labels, bias=True)

    def parameters(self) -> Named:
        """`dense` and `out`."""
        yield "dense", self.dense
        yield "out", self.out

    def pool(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """See `Maker.pool`: logits."""
        return self.out(torch.tanh(self.dense(_pooled(hidden, lengths, "cls"))), torch.float32)

    def finish(self, pooled: Tensor, wishes: PoolingParams) -> Tensor:
        """See `Maker.finish`: what the model's activation makes of logits, unless the caller wants these."""
        return pooled if wishes.use_activation is False else self.activation(pooled)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What pooling by `kind` (one of `processor.pooling.KINDS`) needs of the first `tokens` of a text.

    `row` [hidden] is their first, their last, their maximum or their sum.
    """

    kind: str
    tokens: int = 0
    row: Tensor | None = None

    def with_rows(self, rows: Tensor) -> Gathered:
        """The same of more of the text: `rows` [tokens, hidden] follow."""
        if not len(rows):
            return self
        match self.kind:
            case "cls":
                row = rows[0] if self.row is None else self.row
            case "lasttoken":
                row = rows[-1]
            case "max":
                row = rows.amax(0) if self.row is None else torch.maximum(self.row, rows.amax(0))
            case _:
                row = rows.sum(0) if self.row is None else self.row + rows.sum(0)
        return Gathered(self.kind, self.tokens + len(rows), row)

    @property
    def pooled(self) -> Tensor:
        """The text's row [hidden]."""
        assert self.row is not None
        match self.kind:
            case "mean":
                return self.row / self.tokens
            case "mean_sqrt_len_tokens":
                return self.row / math.sqrt(self.tokens)
        return self.row


def _pooled(hidden: Tensor, lengths: Sequence[int], kind: str) -> Tensor:
    """One row [texts, hidden] of each text's rows."""
    return torch.stack([Gathered(kind).with_rows(text).pooled for text in hidden.split(list(lengths))])
