"""A packed linear layer within a network of torch's modules: diffusers', transformers'."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutti.kernels import PackedLinear


class PackedModule(nn.Linear):
    """In the place of an `nn.Linear`. `weight` is empty: it says which type and device the layer computes in."""

    def __init__(self, packed: PackedLinear, like: Tensor, dtype: torch.dtype | None = None) -> None:
        """`like` has the type and the device; `dtype` is that of the result (None: the input's)."""
        nn.Module.__init__(self)
        self.packed = packed
        self.dtype = dtype
        self.in_features, self.out_features = packed.in_features, packed.out_features
        self.weight = nn.Parameter(like.new_empty(0), requires_grad=False)
        self.register_parameter("bias", None)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weight and the bias."""
        return self.packed.bytes

    def forward(self, input: Tensor) -> Tensor:
        """`input` [..., in_features] -> [..., out_features]."""
        rows = self.packed(input.reshape(-1, self.in_features), self.dtype)
        return rows.view(*input.shape[:-1], self.out_features)
