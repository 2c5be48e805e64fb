"""What weights are loaded into: the interface between layers and whoever brings the weights.

A layer is made empty, says which tensors it expects, and is filled once. Shapes can therefore be checked for a whole
model before the first byte is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tutti.kernels.weights import Weight, dequantize


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor a layer expects. `suffix` follows the layer's name ("weight", "bias"; "" for a bare tensor).

    `slots`, when not empty, says that the tensor is a stack of that many tensors, with so many rows each.
    """

    suffix: str
    shape: tuple[int, ...]
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Where and in what form weights are kept. `quantization` "int8" quantizes linear layers while loading."""

    device: torch.device
    dtype: torch.dtype
    quantization: str | None = None


class Parameter(Protocol):
    """Something that weights are loaded into."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The tensors it expects."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory it holds once loaded."""
        ...

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """Takes the tensors, by suffix. They may be views of a mapped file that is released afterwards."""
        ...


Named = Iterator[tuple[str, Parameter]]


def prefixed(prefix: str, parameters: Named) -> Named:
    """The same parameters with `prefix` and a dot before their names."""
    for name, parameter in parameters:
        yield f"{prefix}.{name}", parameter


def owned(weight: Weight, options: LoadOptions) -> Tensor:
    """The weight as a dense tensor with memory of its own, on the options' device and in their dtype."""
    tensor = dequantize(weight, options.dtype)
    return torch.empty_like(tensor, device=options.device, memory_format=torch.contiguous_format).copy_(
        tensor
    )


class Vector:
    """A small tensor used as it is: attention sinks, scales."""

    def __init__(self, *shape: int, suffix: str = "") -> None:
        self.specs = (TensorSpec(suffix, shape),)
        self.tensor = torch.empty(0)

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`."""
        return self.tensor.nbytes

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`."""
        (weight,) = tensors.values()
        self.tensor = owned(weight, options)
