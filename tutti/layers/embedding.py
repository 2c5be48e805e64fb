"""Token embeddings and the head that turns hidden states into logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels.weights import Dense, Weight
from tutti.layers.linear import Linear
from tutti.layers.parameters import LoadOptions, TensorSpec, owned


class Embedding:
    """A table of one row per token, multiplied by `scale` in the activations' dtype.

    On the CPU a table that has the activations' dtype already stays a view of the mapped file: a step touches a few
    rows, so most of it never enters memory. `head`, when given, is packed from the same table (tied weights); the
    table stays, since a packed weight has no rows to look up.
    """

    def __init__(
        self, vocab: int, width: int, scale: float | None = None, head: Linear | None = None
    ) -> None:
        self.scale = scale
        self.factor: float | None = None  # `scale`, rounded to the activations' dtype
        self.head = head
        self.table = torch.empty(0)
        self.mapped = False
        self.specs = (TensorSpec("weight", (vocab, width)),)

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`; a mapped table counts as nothing, the packed head as itself."""
        return (0 if self.mapped else self.table.nbytes) + (0 if self.head is None else self.head.nbytes)

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`."""
        weight = tensors["weight"]
        if self.scale is not None:
            self.factor = torch.tensor(self.scale, dtype=options.dtype).item()
        self.mapped = (
            isinstance(weight, Dense)
            and weight.tensor.dtype == options.dtype
            and weight.tensor.device == options.device
        )
        self.table = weight.tensor if self.mapped and isinstance(weight, Dense) else owned(weight, options)
        if self.head is not None:
            self.head.load({"weight": weight}, options)

    def __call__(self, tokens: Tensor) -> Tensor:
        """`tokens` int64 [tokens] -> [tokens, width]."""
        rows = F.embedding(tokens, self.table)
        return rows if self.factor is None else rows * self.factor
