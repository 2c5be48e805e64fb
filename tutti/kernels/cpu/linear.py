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

    def joined(self) -> Any:
        """The layer as a part of what the module does in one call; it lives no longer than this."""
        bias = 0 if self._bias is None else self._bias.data_ptr()
        return self._matrix.linear(bias, self.out_features)

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


class NativeGrouped(NativeLinear):
    """A matrix that stays quantized. Its codes multiply bfloat16 rows in int8; with float32 rows they become floats."""

    def rows(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """See `linear.ReadsRows.rows`."""
        index = index.contiguous()
        if index.dtype != torch.int64:
            raise TypeError(f"rows are named by int64, not {index.dtype}")
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.out_features:
            raise IndexError(f"rows are 0 to {self.out_features - 1}")
        out = torch.empty(index.numel(), self.in_features)
        self._matrix.read(index.data_ptr(), index.numel(), out.data_ptr(), torch.get_num_threads())
        return out.to(dtype)


_NUMBERS = (torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.uint8)  # enum Number of grouped.h
_FORMS = {(8, 0), (4, 0), (4, 1), (4, 2), (2, 0), (2, 1)}  # bits of a code in `q` and in `high`


def is_grouped(weight: Quantized) -> bool:
    """Whether the kernels multiply `weight` as it is: groups of whole sixteens, one zero for all codes."""
    scales = (weight.scale, weight.coarse, weight.shift, weight.coarse_shift)
    inputs = weight.shape[1]
    return (
        (weight.bits, weight.high_bits) in _FORMS
        and not weight.floats
        and (weight.zero is None or (weight.zero.dim() == 0 and float(weight.zero).is_integer()))
        and (weight.shift is None or (weight.coarse is None) == (weight.coarse_shift is None))
        and (weight.table is None or (weight.bits, weight.high_bits) == (4, 0))
        and inputs % 32 == 0
        and weight.group_size % 16 == 0
        and all(
            one is None or (one.dtype in _NUMBERS and one.shape[1] > 0 and inputs % one.shape[1] == 0)
            for one in scales
        )
    )


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

    def grouped(
        self, weight: Weight, bias: Tensor | None, device: torch.device, dtype: torch.dtype
    ) -> NativeGrouped:
        """A matrix of codes in groups, for activations of float32 or bfloat16. See `is_grouped`."""
        assert isinstance(weight, Quantized)
        outputs, inputs = weight.shape
        zero = 0.0 if weight.zero is None else float(weight.zero)
        table = None if weight.table is None else weight.table.float()
        if table is None and (weight.bits, weight.high_bits) == (4, 0):
            table = torch.arange(16).float() - zero
        codes = weight.q
        if codes.dtype == torch.int8 and weight.bits == 8:  # as if unsigned
            codes, zero = codes.view(torch.uint8) ^ 128, zero + 128
        kept = [None if one is None else one.contiguous() for one in (codes, weight.high)]
        words = [(0, 0, 0) if one is None else (one.data_ptr(), 0, one.shape[1] // 4) for one in kept]
        scales = [
            None if one is None else one.contiguous()
            for one in (weight.scale, weight.coarse, weight.shift, weight.coarse_shift)
        ]
        numbers = [
            (0, 0, 0) if one is None else (one.data_ptr(), _NUMBERS.index(one.dtype), one.shape[1])
            for one in scales
        ]
        matrix = self.module.GroupedMatrix(
            words[0], weight.bits, words[1], weight.high_bits, zero, 0 if table is None else table.data_ptr(),
            *numbers, outputs, inputs, torch.get_num_threads(),
        )  # fmt: skip
        return NativeGrouped(matrix, (outputs, inputs), bias)
