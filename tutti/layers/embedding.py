"""Token embeddings and the head that turns hidden states into logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels.linear import ReadsRows, quantized_linear
from tutti.kernels.weights import Dense, Quantized, Weight
from tutti.layers.linear import Linear
from tutti.layers.parameters import LoadOptions, TensorSpec, owned


class Embedding:
    """A table of one row per token, multiplied by `scale` in the activations' dtype.

    On the CPU a table that has the activations' dtype already stays a view of the mapped file: a step touches a few
    rows, so most of it never enters memory. A quantized table stays so, and the rows that are looked up become floats.
    `head`, when given, is packed from the same table (tied weights), which stays where no rows can be had of the head.
    """

    def __init__(
        self, vocab: int, width: int, scale: float | None = None, head: Linear | None = None
    ) -> None:
        self.scale = scale
        self.factor: float | None = None  # `scale`, rounded to the activations' dtype
        self.head = head
        self.table = torch.empty(0)
        self.quantized: ReadsRows | None = None  # in the place of `table`
        self.dtype = torch.float32
        self.mapped = False
        self.specs = (TensorSpec("weight", (vocab, width)),)

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`; a mapped table counts as nothing, the packed head as itself."""
        table = 0 if self.mapped else self.table.nbytes
        head = 0 if self.head is None else self.head.nbytes
        shared = self.head is not None and self.quantized is self.head.packed
        return head + (table if self.quantized is None or shared else self.quantized.bytes)

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`."""
        weight = tensors["weight"]
        self.dtype = options.dtype
        if self.scale is not None:
            self.factor = torch.tensor(self.scale, dtype=options.dtype).item()
        if self.head is not None:
            self.head.load({"weight": weight}, options)
        if isinstance(weight, Quantized):
            self.quantized = self._rows_of(weight, options)
            return
        self.mapped = (
            isinstance(weight, Dense)
            and weight.tensor.dtype == options.dtype
            and weight.tensor.device == options.device
        )
        self.table = weight.tensor if self.mapped and isinstance(weight, Dense) else owned(weight, options)

    def _rows_of(self, weight: Quantized, options: LoadOptions) -> ReadsRows:
        """What looks up rows of `weight`: the head, if it can."""
        if self.head is not None and isinstance(self.head.packed, ReadsRows):
            return self.head.packed
        return quantized_linear(weight, None, options.device, options.dtype)

    def __call__(self, tokens: Tensor) -> Tensor:
        """`tokens` int64 [tokens] -> [tokens, width]."""
        if self.quantized is not None:
            rows = self.quantized.rows(tokens, self.dtype)
        else:
            rows = F.embedding(tokens, self.table)
        return rows if self.factor is None else rows * self.factor
