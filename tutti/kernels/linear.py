"""Linear layers on packed weights: canonical form in, a callable in the device's best layout out.

Owns `PackedLinear`, the plain implementations, and `pack_linear`, which chooses. The CPU's prepacked ones are in
`cpu.linear`.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels.weights import Dense, Weight, dequantize


class PackedLinear(Protocol):
    """y = x W^T + b with W packed for a device."""

    in_features: int
    out_features: int

    @property
    def bytes(self) -> int:
        """Bytes of memory the packed weight and the bias hold."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in x's dtype."""
        ...


class PlainLinear:
    """`F.linear` on a dense weight: the reference, and what float32 and GPUs use."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self.out_features, self.in_features = weight.shape

    @property
    def bytes(self) -> int:
        """Bytes of weight and bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features]."""
        return F.linear(x, self.weight, self.bias)


def pack_linear(
    weight: Weight, bias: Tensor | None, *, device: torch.device | str, dtype: torch.dtype
) -> PackedLinear:
    """Packs `weight` [out, in] and `bias` [out] for `device`; activations will come in `dtype`.

    The result shares no memory with a `Dense` weight only if it had to be converted; a memory-mapped tensor may be
    released when `PackedLinear.bytes` has been paid for, that is when the result is not a `PlainLinear` on it.
    """
    device = torch.device(device)
    moved_bias = None if bias is None else bias.to(device, dtype)
    if isinstance(weight, Dense):
        return PlainLinear(weight.tensor.to(device, dtype), moved_bias)
    return PlainLinear(dequantize(weight, dtype).to(device), moved_bias)
