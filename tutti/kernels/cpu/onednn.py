"""Linear layers through the oneDNN that torch carries: what serves a CPU where the own kernels are not built.

Weights are reordered once; bfloat16 runs 2.5 times faster that way at one row than `F.linear` (`bench/kernels.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutti.kernels.reference import quantize_rows
from tutti.kernels.weights import Quantized, Weight, dequantize

_ZERO_POINT = 128  # oneDNN has a fast path for unsigned activations alone


class OneDnnLinear:
    """bfloat16 on a reordered weight."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` [out, in] and `bias` [out] in bfloat16."""
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())

    @property
    def bytes(self) -> int:
        """Bytes of the reordered weight and the bias."""
        return 2 * self.in_features * self.out_features + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` bfloat16 [rows, in_features] -> [rows, out_features] in `dtype` (None: x's)."""
        if x.shape[0] == 0:
            return x.new_empty(0, self.out_features, dtype=dtype)
        result = torch.ops.mkldnn._linear_pointwise(x.contiguous(), self._weight, self.bias, "none", [], "")
        return result if dtype is None else result.to(dtype)


class OneDnnInt8Linear:
    """W8A8: int8 weights with a scale per output channel, activations quantized per token on the way in."""

    def __init__(self, weight: Quantized, bias: Tensor | None) -> None:
        """`weight` int8, symmetric, per channel. `bias` [out]."""
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.float()
        self._scale = weight.scale.flatten().float()
        self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
        self._weight = torch.ops.onednn.qlinear_prepack(weight.codes(), None)

    @property
    def bytes(self) -> int:
        """Bytes of the codes, the scales and the bias."""
        return (
            self.in_features * self.out_features
            + 12 * self.out_features
            + (0 if self.bias is None else self.bias.nbytes)
        )

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in `dtype` (None: x's)."""
        if x.shape[0] == 0:
            return x.new_empty(0, self.out_features, dtype=dtype)
        codes, scale = quantize_rows(x)
        shifted = (codes.view(torch.uint8) ^ _ZERO_POINT).contiguous()  # two's complement + 128
        result = torch.ops.onednn.qlinear_pointwise(
            shifted, 1.0, _ZERO_POINT, self._weight, self._scale, self._zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        result.mul_(scale[:, None])
        if self.bias is not None:
            result.add_(self.bias)
        return result.to(dtype or x.dtype)


def linear(weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype) -> OneDnnLinear:
    """`weight` as bfloat16."""
    return OneDnnLinear(dequantize(weight, dtype), None if bias is None else bias.to(dtype))


def int8_linear(
    weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
) -> OneDnnInt8Linear:
    """`weight` as int8 codes with one scale per output channel."""
    assert isinstance(weight, Quantized)
    return OneDnnInt8Linear(weight, bias)
