"""Writing a GGUF file: header, metadata, the tensors' descriptions, then their data, each piece as it is made.

    | magic, version, counts | metadata | name, shape, type, offset of each tensor | pad | data | pad | data | pad | ...

Offsets count from the start of the data and are multiples of 32 bytes. The file appears under its name when it is
complete and on the disk; until then it is a hidden file beside, which a failure removes. No torch: data are pieces of
bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.metadata import Field, packed_text

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32  # bytes

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor to write: `shape` [..., row] as torch has it (the file lists it backwards); `pieces` makes its bytes."""

    name: str
    kind: BlockType
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Piece]]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return self.kind.nbytes_of(self.shape)


def write(
    file: Path,
    metadata: Mapping[str, Field],
    tensors: Sequence[TensorPlan],
    progress: Callable[[TensorPlan, int], None] = lambda tensor, nbytes: None,
) -> int:
    """Writes `file` and returns its size in bytes; `progress` hears of every piece: whose, and how many bytes.

    Raises CheckpointError when a tensor's pieces do not add up to its size, and OSError. A failure of any kind, an
    interruption included, leaves nothing behind and a file that was there before as it was.
    """
    with _replacing(file) as stream:
        stream.write(_head(metadata, tensors))
        _pad(stream)
        for tensor in tensors:
            written = 0
            for piece in tensor.pieces():
                stream.write(piece)
                written += len(piece)
                progress(tensor, len(piece))
            if written != tensor.nbytes:
                raise CheckpointError(
                    f"{tensor.name}: {written} bytes were made where {tensor.kind.name} {list(tensor.shape)} "
                    f"takes {tensor.nbytes}"
                )
            _pad(stream)
        return stream.tell()


def size(metadata: Mapping[str, Field], tensors: Sequence[TensorPlan]) -> int:
    """Bytes that `write` will write."""
    return _aligned(len(_head(metadata, tensors))) + sum(_aligned(tensor.nbytes) for tensor in tensors)


def _head(metadata: Mapping[str, Field], tensors: Sequence[TensorPlan]) -> bytes:
    """Everything before the data."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, field in metadata.items():
        parts += packed_text(key), struct.pack("<I", field.kind), field.packed()
    offset = 0
    for tensor in tensors:
        extents = tensor.shape[::-1]
        parts.append(packed_text(tensor.name))
        parts.append(struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, tensor.kind.id, offset))
        offset += _aligned(tensor.nbytes)
    return b"".join(parts)


@contextmanager
def _replacing(file: Path) -> Iterator[BinaryIO]:
    """A stream into a file beside `file`, which takes its name when all went well and goes away otherwise."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _pad(stream: BinaryIO) -> None:
    stream.write(bytes(-stream.tell() % ALIGNMENT))


def _aligned(nbytes: int) -> int:
    return nbytes + -nbytes % ALIGNMENT
