"""The GGUF file format, versions 2 and 3, little-endian; no tensor library is imported.

    | "GGUF" | version u32 | tensors u64 | values u64 | values | tensors' places | padding | data ................ |
                                                                                            0   offset |-- tensor --|

A value is a key, a type and its bytes; a place is a name, the extents (the fastest first), an element type and an
offset into the data. Nothing that the file says of itself is believed before it is compared with the file's size, so
that a damaged or hostile file costs no more memory than it has bytes. Arrays stay in the file until they are asked
for: a vocabulary of 250,000 tokens is stepped over, not read.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError, ModelNotFound
from tutti.formats.gguf.blocks.kinds import BlockType, by_id
from tutti.hub.gguf import MAGIC

VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
MOST_EXTENTS = 5  # of a tensor: ggml has 4, but convolutions over films are stored with 5
DEEPEST = 4  # arrays in arrays
STRING, ARRAY, BOOL = 8, 9, 7
NUMBERS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Array:
    """An array that is still in the file: `count` values of the type `kind`, from byte `offset` on."""

    file: GGUFFile
    kind: int
    count: int
    offset: int

    def read(self) -> list[Any]:
        """The values."""
        return self.file.array(self)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: `shape` with the slowest extent first, `offset` in bytes from the start of `file`."""

    name: str
    shape: tuple[int, ...]
    type: BlockType
    offset: int
    nbytes: int
    file: Path

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, whose elements are the last extent's."""
        return self.shape[-1] // self.type.elements * self.type.nbytes


class GGUFFile:
    """An opened file: its metadata, and the tensors' places by name. The file stays mapped, read-only."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        """Raises CheckpointError when `data` is not a whole GGUF file."""
        self.path = path
        self.data = data
        cursor = _Cursor(path, data)
        cursor.skip(len(MAGIC), "the header")
        self.version = _version(path, cursor)
        tensors = cursor.count("tensors", 8 + 4 + 4 + 8)
        values = cursor.count("values", 8 + 4 + 1)
        self.kinds: dict[str, int] = {}  # of the metadata's values
        self.metadata: Mapping[str, Any] = self._read_metadata(cursor, values)
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise CheckpointError(f"{path}: general.alignment is {alignment!r}, which is no power of two")
        self.alignment = alignment
        self.tensors: Mapping[str, Place] = self._read_places(cursor, tensors)

    def array(self, array: Array) -> list[Any]:
        """The values of an array of this file."""
        cursor = _Cursor(self.path, self.data, array.offset)
        if array.kind == STRING:
            return [cursor.text() for _ in range(array.count)]
        if array.kind == ARRAY:
            return [self._read_array(cursor, DEEPEST).read() for _ in range(array.count)]
        number = NUMBERS[array.kind]
        block = self.data[array.offset : array.offset + array.count * number.size]
        return list(struct.unpack(f"<{array.count}{number.format[-1]}", block))

    def _read_metadata(self, cursor: _Cursor, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = cursor.name("a key of the metadata")
            if key in found:
                raise CheckpointError(f"{self.path}: the metadata has {key!r} twice")
            kind = self.kinds[key] = cursor.number(_U32)
            if kind == STRING:
                found[key] = cursor.text()
            elif kind == ARRAY:
                found[key] = self._read_array(cursor, 0)
            elif kind in NUMBERS:
                found[key] = cursor.number(NUMBERS[kind])
            else:
                raise CheckpointError(f"{self.path}: {key!r} has the unknown value type {kind}")
        return found

    def _read_array(self, cursor: _Cursor, depth: int) -> Array:
        """The array that begins at the cursor, which is moved behind it."""
        kind = cursor.number(_U32)
        if kind not in NUMBERS and kind not in (STRING, ARRAY):
            raise CheckpointError(f"{self.path}: an array of the unknown value type {kind}")
        least = NUMBERS[kind].size if kind in NUMBERS else {STRING: 8, ARRAY: 4 + 8}[kind]
        count = cursor.count("values of an array", least)
        array = Array(self, kind, count, cursor.position)
        if kind == STRING:
            cursor.skip_texts(count)
        elif kind == ARRAY:
            if depth >= DEEPEST:
                raise CheckpointError(f"{self.path}: arrays in arrays, more than {DEEPEST} deep")
            for _ in range(count):
                self._read_array(cursor, depth + 1)
        else:
            cursor.skip(count * least, "an array")
        return array

    def _read_places(self, cursor: _Cursor, count: int) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for _ in range(count):
            place = _read_place(cursor)
            if place.name in found:
                raise CheckpointError(f"{self.path}: the tensor {place.name!r} is there twice")
            found[place.name] = place
        start = -(-cursor.position // self.alignment) * self.alignment
        placed = {name: replace(place, offset=start + place.offset) for name, place in found.items()}
        self._check_places(placed)
        return placed

    def _check_places(self, places: Mapping[str, Place]) -> None:
        """Raises CheckpointError where a tensor lies askew, beyond the file's end or across another."""
        size, before = len(self.data), None
        for place in sorted(places.values(), key=lambda one: one.offset):
            if place.offset % self.alignment:
                raise CheckpointError(
                    f"{self.path}: {place.name!r} does not begin at a multiple of {self.alignment} bytes"
                )
            if place.offset + place.nbytes > size:
                raise CheckpointError(
                    f"{self.path} is cut short, or damaged: {place.name!r} ends at byte {place.offset + place.nbytes} "
                    f"of {size}; fetch the file again"
                )
            if not place.nbytes:
                continue
            if before is not None and before.offset + before.nbytes > place.offset:
                raise CheckpointError(f"{self.path}: {before.name!r} and {place.name!r} overlap")
            before = place


def read_gguf(path: Path) -> GGUFFile:
    """Opens the GGUF file `path`.

    Raises ModelNotFound when there is none, CheckpointError when it is not GGUF, of another version or byte order, cut
    short or contradicts itself.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(MAGIC))
            if head != MAGIC:
                raise CheckpointError(f"{path} is not a GGUF file: it begins with {head!r}, not {MAGIC!r}")
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} does not exist") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return GGUFFile(path, data)


def _version(path: Path, cursor: _Cursor) -> int:
    """The file's version. Raises CheckpointError for one that is not read."""
    version = cursor.number(_U32)
    if version in VERSIONS:
        return version
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in VERSIONS:
        raise CheckpointError(
            f"{path} is a big-endian GGUF file, made for another kind of processor; take the little-endian one"
        )
    raise CheckpointError(
        f"{path} is a GGUF file of version {version}; versions {' and '.join(map(str, VERSIONS))} are read"
    )


def _read_place(cursor: _Cursor) -> Place:
    """A tensor's place, its offset counted from the start of the data. Raises CheckpointError."""
    name = cursor.name("a tensor's name")
    extents = cursor.number(_U32)
    if not 0 < extents <= MOST_EXTENTS:
        raise CheckpointError(
            f"{cursor.path}: {name!r} has {extents} extents; 1 to {MOST_EXTENTS} are possible"
        )
    shape = tuple(cursor.number(_U64) for _ in range(extents))[::-1]
    number = cursor.number(_U32)
    try:
        kind = by_id(number)
    except CheckpointError as error:
        raise CheckpointError(f"{cursor.path}: {name!r}: {error.message}") from error
    offset = cursor.number(_U64)
    if shape[-1] % kind.elements:
        raise CheckpointError(
            f"{cursor.path}: rows of {name!r} have {shape[-1]} elements, no multiple of {kind.name}'s blocks of "
            f"{kind.elements}"
        )
    return Place(name, shape, kind, offset, math.prod(shape) // kind.elements * kind.nbytes, cursor.path)


class _Cursor:
    """Reads a mapped file from front to back. Every method raises CheckpointError rather than pass the end."""

    __slots__ = ("data", "path", "position", "size")

    def __init__(self, path: Path, data: mmap.mmap, position: int = 0) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = position

    def skip(self, count: int, what: str) -> int:
        """Goes `count` bytes on; returns where they begin."""
        begin = self.position
        if count > self.size - begin:
            raise CheckpointError(
                f"{self.path} is cut short, or damaged: {what} takes {count} bytes at byte {begin} of {self.size}; "
                "fetch the file again"
            )
        self.position = begin + count
        return begin

    def number(self, form: struct.Struct) -> Any:
        """One number."""
        return form.unpack_from(self.data, self.skip(form.size, "a number"))[0]

    def count(self, what: str, least: int) -> int:
        """How many `what` follow, each of which takes at least `least` bytes."""
        count = int(self.number(_U64))
        if count * least > self.size - self.position:
            raise CheckpointError(
                f"{self.path} is cut short, or damaged: it announces {count} {what} with "
                f"{self.size - self.position} bytes left; fetch the file again"
            )
        return count

    def bytes(self, what: str) -> bytes:
        """The bytes of a string."""
        length = self.number(_U64)
        begin = self.skip(length, what)
        return self.data[begin : begin + length]

    def text(self) -> str:
        """A string of the metadata; what is not UTF-8 in it becomes U+FFFD."""
        return self.bytes("a string").decode("utf-8", "replace")

    def name(self, what: str) -> str:
        """A string that names something."""
        found = self.bytes(what)
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.path} is damaged: {what} is not UTF-8 ({found[:40]!r})") from error

    def skip_texts(self, count: int) -> None:
        """Goes over `count` strings; the one loop that is long, so nothing is called in it."""
        data, size, position, length = self.data, self.size, self.position, _U64.unpack_from
        for _ in range(count):
            if position + 8 > size:
                break
            position += 8 + length(data, position)[0]
            if position > size:
                break
        else:
            self.position = position
            return
        raise CheckpointError(
            f"{self.path} is cut short, or damaged: an array of strings ends beyond its {size} bytes"
        )
