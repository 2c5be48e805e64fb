"""Linear layers on packed weights.

Projections of the same input are one layer with several slots, so that a step runs one large matrix product instead of
several small ones. How a weight is packed and applied is the kernels' business.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tutti.kernels import PackedLinear, pack_linear, quantize
from tutti.kernels.weights import Weight, dequantize
from tutti.layers.lora import Addition
from tutti.layers.parameters import LoadOptions, TensorSpec


class Linear:
    """y = x W^T + b. `outs` are the rows of each slot, stacked in this order: [q, k, v] or [gate, up].

    `quantize` False keeps the weight as it is when loading quantizes (a router's, for instance).
    """

    def __init__(self, in_features: int, *outs: int, bias: bool = False, quantize: bool = True) -> None:
        self.in_features = in_features
        self.out_features = sum(outs)
        self.quantize = quantize
        self.slots = outs if len(outs) > 1 else ()
        weight = TensorSpec("weight", (self.out_features, in_features), self.slots)
        self.specs = (weight, TensorSpec("bias", (self.out_features,), self.slots)) if bias else (weight,)
        self.packed: PackedLinear | None = None
        self.additions: list[Addition] = []  # of adapters

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`."""
        packed = 0 if self.packed is None else self.packed.bytes
        return packed + sum(addition.bytes for addition in self.additions)

    @property
    def alone(self) -> PackedLinear | None:
        """The packed weight, where it is all there is: no adapter adds to it."""
        return None if self.additions else self.packed

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """Packs `weight` [out, in] and, if there is one, `bias` [out]."""
        weight = tensors["weight"]
        if options.quantization == "int8" and self.quantize:
            weight = quantize(weight, "int8")
        bias = tensors.get("bias")
        self.packed = pack_linear(
            weight,
            None if bias is None else dequantize(bias, options.dtype),
            device=options.device,
            dtype=options.dtype,
        )

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`x` [tokens, in_features] -> [tokens, out_features] in `dtype` (None: x's)."""
        assert self.packed is not None, "weights are not loaded"
        y = self.packed(x, dtype)
        for addition in self.additions:
            addition.add(x, y)
        return y
