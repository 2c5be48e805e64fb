"""What a GGUF file says of itself: metadata and the tensors' shapes, for `show` and for what is created of one.

`read_header` is the one place that knows how such a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError
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
    def file_type(self) -> str:
        """The quantization: Q4_K_M, F16, ...; empty where the file does not say."""
        from gguf import LlamaFileType

        try:
            kind = LlamaFileType(self.metadata["general.file_type"])
        except (KeyError, ValueError):
            return ""
        return kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")

    def of_architecture(self, key: str) -> Any:
        """`<architecture>.<key>`; None where it is absent."""
        return self.metadata.get(f"{self.architecture}.{key}")


_SHORT = 64  # elements of an array that is read


def read_header(path: Path) -> Header:
    """The header of the GGUF file at `path`. Raises CheckpointError."""
    from gguf import GGUFReader, GGUFValueType

    try:
        reader = GGUFReader(path)
        metadata: dict[str, Any] = {}
        for key, field in reader.fields.items():
            if key.startswith("GGUF."):
                continue
            if field.types[0] == GGUFValueType.ARRAY and len(field.data) > _SHORT:
                metadata[key] = Array(field.types[-1].name.lower(), len(field.data))
            else:
                metadata[key] = field.contents()
        tensors = tuple(
            Tensor(
                one.name,
                one.tensor_type.name,
                tuple(int(size) for size in one.shape),
                int(one.n_elements),
            )
            for one in reader.tensors
        )
    except (ValueError, KeyError, IndexError, OSError, OverflowError) as error:
        raise CheckpointError(f"{path} is no readable GGUF file: {error}") from error
    return Header(metadata, tensors)


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
