"""Linear layers on packed weights: canonical form in, a callable in the device's best layout out.

Owns the interface `PackedLinear` and the plain implementation. `choose.linear_packer` says which class packs what.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels.weights import Weight, dequantize


class PackedLinear(Protocol):
    """y = x W^T + b with W packed for a device."""

    in_features: int
    out_features: int

    @property
    def bytes(self) -> int:
        """Bytes of memory the packed weight and the bias hold."""
        ...

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in `dtype`; None: x's. Logits ask for float32."""
        ...


class PlainLinear:
    """`F.linear` on a dense weight: the reference, and what GPUs use."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self.out_features, self.in_features = weight.shape

    @property
    def bytes(self) -> int:
        """Bytes of weight and bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in `dtype` (None: x's)."""
        result = F.linear(x, self.weight, self.bias)
        return result if dtype is None else result.to(dtype)


def plain_linear(
    weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> PlainLinear:
    """`weight` dequantized to `dtype` on `device`."""
    return PlainLinear(
        dequantize(weight, dtype).to(device), None if bias is None else bias.to(device=device, dtype=dtype)
    )
