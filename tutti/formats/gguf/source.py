"""A GGUF file as a source of tensors: where everything is, with the types that it is written with. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.metadata import Field, Metadata, ValueType
from tutti.formats.gguf.parts import read_model
from tutti.formats.gguf.reader import Array


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file: `shape` [..., row] as torch has it, `offset` in bytes from the start of `file`."""

    name: str
    kind: BlockType
    shape: tuple[int, ...]
    offset: int
    file: Path


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GGUF file holds."""

    metadata: Metadata
    tensors: tuple[StoredTensor, ...]


def read_contents(path: Path) -> Contents:
    """The metadata of the file and where its tensors lie. Raises as `read_model` does."""
    file = read_model(path)
    metadata = {key: _field(ValueType(file.kinds[key]), value) for key, value in file.metadata.items()}
    tensors = tuple(
        StoredTensor(place.name, place.type, place.shape, place.offset, place.file)
        for place in file.tensors.values()
    )
    return Contents(metadata, tensors)


def _field(kind: ValueType, value: Any) -> Field:
    """A value as it is written again. Raises CheckpointError for arrays of arrays, which nobody writes."""
    if not isinstance(value, Array):
        return Field(kind, value)
    if value.kind == ValueType.ARRAY:
        raise CheckpointError(f"{value.file.path} holds arrays of arrays, which are not written")
    return Field(kind, value.read(), ValueType(value.kind))
