"""What a GGUF file says of itself: metadata and the tensors' shapes, to be shown, and for what is created of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.formats.gguf.blocks.kinds import ALL, KEPT
from tutti.formats.gguf.metadata import ValueType, file_type
from tutti.formats.gguf.parts import read_model
from tutti.formats.gguf.reader import Array as FileArray
from tutti.hub.create import Facts


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata that is not read: thousands of tokens. `kind` is the type of its elements."""

    kind: str
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the file lists it; the shape's first dimension is the fastest."""

    name: str
    kind: str
    shape: tuple[int, ...]
    elements: int


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata by key (arrays of more than `_SHORT` elements are `Array`s) and tensors."""

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def dequantized(self) -> list[str]:
        """The types whose tensors become floats when the model is loaded."""
        kinds = {tensor.kind for tensor in self.tensors}
        return sorted(kind.name for kind in ALL if kind.name in kinds and kind.quantized and kind not in KEPT)

    @property
    def file_type(self) -> str:
        """The quantization: Q4_K_M, F16, ...; empty where the file does not say."""
        return file_type(self.metadata.get("general.file_type"))

    def of_architecture(self, key: str) -> Any:
        """`<architecture>.<key>`; None where it is absent."""
        return self.metadata.get(f"{self.architecture}.{key}")


_SHORT = 64  # elements of an array that is read


def read_header(path: Path) -> Header:
    """The header of the GGUF file at `path`. Raises as `read_model` does."""
    file = read_model(path)
    metadata = {key: _value(value) for key, value in file.metadata.items()}
    tensors = tuple(
        Tensor(place.name, place.type.name, place.shape[::-1], math.prod(place.shape))
        for place in file.tensors.values()
    )
    return Header(metadata, tensors)


def _value(value: Any) -> Any:
    """A value as it is shown: long arrays are not read."""
    if not isinstance(value, FileArray):
        return value
    if value.count > _SHORT:
        return Array(ValueType(value.kind).name.lower(), value.count)
    return value.read()


def describe(path: Path) -> Facts:
    """What a creation needs to know of the GGUF file at `path`. Raises CheckpointError."""
    header = read_header(path)
    if header.metadata.get("general.type") == "adapter":
        kind = "adapter"
    elif header.architecture == "clip" or header.metadata.get("general.type") == "mmproj":
        kind = "projector"
    else:
        kind = "model"
    return Facts(header.architecture, header.parameters, header.file_type, kind)
