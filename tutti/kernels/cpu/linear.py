"""Linear layers on the native kernels: packed once, with huge pages, and the same result in every batch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tutti.kernels.cpu.ops import TYPES
from tutti.kernels.weights import Dense, Quantized, Weight, dequantize


class NativeLinear:
    """A matrix of the native module and its bias.

    float32 and bfloat16 weights sum in float32; int8 weights (one scale per output channel) multiply activations that
    are quantized per token on the way in (W8A8).
    """

    def __init__(self, matrix: Any, shape: tuple[int, int], bias: Tensor | None) -> None:
        self.out_features, self.in_features = shape
        self._matrix = matrix
        self._multiply = matrix.multiply
        self._bias = None if bias is None else bias.float().contiguous()

    @property
    def bytes(self) -> int:
        """Bytes of the packed weight, its scales and the bias."""
        return self._matrix.bytes + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [rows, in_features] -> [rows, out_features] in `dtype` (None: x's)."""
        dtype = dtype or x.dtype
        if x.dtype not in TYPES or dtype not in TYPES:
            return self(x.float(), torch.float32).to(dtype)
        rows, width = x.shape
        if width != self.in_features:
            raise ValueError(f"linear layer of {self.in_features} inputs was given {width}")
        if x.stride(1) != 1:
            x = x.contiguous()
        out = x.new_empty((rows, self.out_features), dtype=dtype)
        bias = 0 if self._bias is None else self._bias.data_ptr()
        self._multiply(
            x.data_ptr(), TYPES[x.dtype], x.stride(0), rows, bias,
            out.data_ptr(), TYPES[dtype], self.out_features, torch.get_num_threads(),
        )  # fmt: skip
        return out


class NativePacker:
    """Packs weights for the kernels of `module`."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def dense(
        self, weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
    ) -> NativeLinear:
        """A matrix of `dtype`, float32 or bfloat16."""
        tensor = weight.tensor if isinstance(weight, Dense) else dequantize(weight, dtype)
        if tensor.dtype not in TYPES:
            tensor = tensor.to(dtype)
        if tensor.stride(1) != 1:
            tensor = tensor.contiguous()
        form = self.module.Float32Matrix if dtype == torch.float32 else self.module.BFloat16Matrix
        outputs, inputs = tensor.shape
        threads = torch.get_num_threads()
        matrix = form(tensor.data_ptr(), TYPES[tensor.dtype], tensor.stride(0), outputs, inputs, threads)
        return NativeLinear(matrix, (outputs, inputs), bias)

    def int8(
        self, weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
    ) -> NativeLinear:
        """An int8 matrix from codes with one scale per output channel and no zeros."""
        assert isinstance(weight, Quantized)
        codes, scale = weight.codes().contiguous(), weight.scale.float().contiguous()
        outputs, inputs = codes.shape
        threads = torch.get_num_threads()
        matrix = self.module.Int8Matrix(codes.data_ptr(), scale.data_ptr(), outputs, inputs, threads)
        return NativeLinear(matrix, (outputs, inputs), bias)
