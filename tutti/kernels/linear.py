"""Linear layers on packed weights: canonical form in, a callable in the device's best layout out.

Owns the interface `PackedLinear` and the plain implementation. `choose.linear_packer` says which class packs what.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from tutti.kernels.weights import Quantized, Weight, dequantize, take_rows

TILE = 1 << 21  # weights that are floats at a time where the torch reference multiplies quantized ones


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


@runtime_checkable
class ReadsRows(PackedLinear, Protocol):
    """A packed weight of which single rows can be had: a table of embeddings and a head at once."""

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """`index` int64 [rows] -> the weights of these outputs, [rows, in_features] in `dtype`."""
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


class QuantizedLinear:
    """The reference on a quantized weight, on any device: a tile of rows becomes floats, multiplies, and is gone."""

    def __init__(self, weight: Quantized, bias: Tensor | None) -> None:
        """`weight` and `bias` [out] on one device."""
        self.weight = weight
        self.bias = bias
        self.out_features, self.in_features = weight.shape

    @property
    def bytes(self) -> int:
        """Bytes of codes, scales and bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in `dtype` (None: x's)."""
        out = x.new_empty(x.shape[0], self.out_features, dtype=dtype or x.dtype)
        for tile in self._tiles():
            part = self.weight.select(tile)
            bias = None if self.bias is None else self.bias[tile]
            out[:, tile] = F.linear(x, dequantize(part, x.dtype), bias)
        return out

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """See `ReadsRows.rows`."""
        return dequantize(take_rows(self.weight, index), dtype)

    def _tiles(self) -> Iterator[slice]:
        step = max(1, TILE // max(1, self.in_features))
        for start in range(0, self.out_features, step):
            yield slice(start, start + step)


class StackedLinear:
    """Layers on the same input, their results side by side: a stack whose parts are not quantized alike."""

    def __init__(self, parts: list[PackedLinear]) -> None:
        self.parts = parts
        self.in_features = parts[0].in_features
        self.out_features = sum(part.out_features for part in parts)

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.bytes for part in self.parts)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in `dtype` (None: x's)."""
        return torch.cat([part(x, dtype) for part in self.parts], dim=1)


def plain_linear(
    weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> PlainLinear:
    """`weight` dequantized to `dtype` on `device`."""
    return PlainLinear(
        dequantize(weight, dtype).to(device), None if bias is None else bias.to(device=device, dtype=dtype)
    )


def quantized_linear(
    weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> QuantizedLinear:
    """`weight` as it is, on `device`."""
    assert isinstance(weight, Quantized)
    own = weight.map_rows(lambda tensor: tensor.to(device, copy=True))
    zero = None if own.zero is None else own.zero.to(device)
    table = None if own.table is None else own.table.to(device)
    own = replace(own, zero=zero, table=table)
    return QuantizedLinear(own, None if bias is None else bias.to(device=device, dtype=dtype))
