"""A GGUF file as a source of tensors: where everything is, read by the `gguf` package. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks.kinds import BlockType, by_id
from tutti.formats.gguf.metadata import Field, Metadata, ValueType


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a file: `shape` [..., row] as torch has it, `offset` in bytes from the start of the file."""

    name: str
    kind: BlockType
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GGUF file holds."""

    metadata: Metadata
    tensors: tuple[StoredTensor, ...]


def read_contents(file: Path) -> Contents:
    """The metadata of `file` and where its tensors lie. Raises CheckpointError when it is damaged or cut short."""
    import gguf

    try:
        reader = gguf.GGUFReader(file)
        metadata = {
            name: _field(field) for name, field in reader.fields.items() if not name.startswith("GGUF.")
        }
        tensors = tuple(
            StoredTensor(
                tensor.name,
                by_id(int(tensor.tensor_type)),
                tuple(int(extent) for extent in reversed(tensor.shape)),
                int(tensor.data_offset),
            )
            for tensor in reader.tensors
        )
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{file} is not a GGUF file, or damaged: {error}") from error
    end = max((tensor.offset + tensor.kind.nbytes_of(tensor.shape) for tensor in tensors), default=0)
    if end > file.stat().st_size:
        raise CheckpointError(f"{file} is cut short: its tensors end at {end} bytes; fetch it again")
    return Contents(metadata, tensors)


def _field(field: object) -> Field:
    """A field of the package's reader as ours."""
    from gguf import ReaderField

    assert isinstance(field, ReaderField)
    kind = ValueType(field.types[0])
    if kind is not ValueType.ARRAY:
        return Field(kind, field.contents())
    element = field.types[1] if len(field.types) > 1 else int(field.parts[3][0])  # an empty array's elements
    return Field(kind, field.contents() if field.data else [], ValueType(element))
