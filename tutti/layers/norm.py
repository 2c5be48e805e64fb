"""Normalization layers, each alone or fused with the residual addition before it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tutti.kernels import add_rms_norm, layer_norm, rms_norm
from tutti.kernels.fused import NormParts
from tutti.kernels.weights import Weight
from tutti.layers.config import NormConfig
from tutti.layers.parameters import LoadOptions, TensorSpec, owned


class RMSNorm:
    """x / rms(x) * (offset + weight) over the last dimension (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, config: NormConfig) -> None:
        self.eps = config.eps
        self.offset = config.offset
        self.weight = torch.empty(0)
        self.specs = (TensorSpec("weight", (width,)),)

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`."""
        return self.weight.nbytes

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`."""
        self.weight = owned(tensors["weight"], options)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [..., width], normed."""
        return rms_norm(x, self.weight, self.eps, offset=self.offset)

    def add(self, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """(norm(residual + x), residual + x); without a residual, x begins it."""
        if residual is None:
            return rms_norm(x, self.weight, self.eps, offset=self.offset), x
        return add_rms_norm(x, residual, self.weight, self.eps, offset=self.offset)

    def parts(self) -> NormParts:
        """For a kernel that does more than this."""
        return NormParts(self.weight, self.eps, self.offset)


class LayerNorm:
    """(x - mean) / std * weight + bias over the last dimension (Ba et al. 2016)."""

    def __init__(self, width: int, config: NormConfig) -> None:
        self.eps = config.eps
        self.weight = torch.empty(0)
        self.bias: Tensor | None = None
        self.specs = tuple(
            TensorSpec(suffix, (width,)) for suffix in (("weight", "bias") if config.bias else ("weight",))
        )

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`."""
        self.weight = owned(tensors["weight"], options)
        if "bias" in tensors:
            self.bias = owned(tensors["bias"], options)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [..., width], normed."""
        return layer_norm(x, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """(norm(residual + x), residual + x); without a residual, x begins it."""
        total = x if residual is None else residual + x
        return layer_norm(total, self.weight, self.bias, self.eps), total


Norm = RMSNorm | LayerNorm


def make_norm(width: int, config: NormConfig) -> Norm:
    """The normalization `config` describes, over `width` columns. Raises ValueError on an unknown kind."""
    match config.kind:
        case "rms":
            return RMSNorm(width, config)
        case "layer":
            return LayerNorm(width, config)
    raise ValueError(f"norm kind {config.kind!r} is not known; known: rms, layer")
