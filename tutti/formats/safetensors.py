"""The safetensors file format, read from its header alone; no tensor library is imported.

A file is an 8-byte little-endian length, a JSON header of that length, then the data. The header maps each tensor's
name to its dtype, shape and the half-open range of its bytes in the data:

    | length: u64 | header: JSON | data ................................ |
                                 0     begin |-- tensor --| end

Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError

MAX_HEADER = 100_000_000  # bytes; the format's own limit

# Safetensors' dtype -> (torch's name of it, bytes per element).
DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `dtype` is torch's name of it, `offset` counts bytes from the start of `file`."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: Path
    offset: int


def read_header(file: Path) -> dict[str, TensorInfo]:
    """The tensors of one file, by name.

    Raises CheckpointError when the file is missing, its header cannot be read or it ends before its last tensor does.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 0 < length <= min(MAX_HEADER, max(0, size - 8)):
                raise CheckpointError(
                    f"{file}: not a safetensors file, or cut short: {size} bytes that announce a header of {length}"
                )
            text = stream.read(length)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} does not exist; fetch the checkpoint again") from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{file}: the header is not JSON ({error}); fetch the file again") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: the header is not a JSON object")
    header.pop("__metadata__", None)
    data = 8 + length
    tensors = {name: _tensor(file, data, name, entry) for name, entry in header.items()}
    end = max((info.offset + info.nbytes for info in tensors.values()), default=data)
    if end > size:
        cut = sum(info.offset + info.nbytes > size for info in tensors.values())
        raise CheckpointError(
            f"{file} is cut short: {size} bytes where its header announces {end} ({cut} of {len(tensors)} tensors "
            "are incomplete); fetch the file again"
        )
    return tensors


def _tensor(file: Path, data: int, name: str, entry: Any) -> TensorInfo:
    """The header's entry of one tensor, checked."""
    try:
        dtype, itemsize = DTYPES[entry["dtype"]]
        shape = tuple(int(extent) for extent in entry["shape"])
        begin, end = (int(at) for at in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: the header's entry of {name!r} is not valid: {entry!r}") from error
    nbytes = math.prod(shape) * itemsize
    if begin < 0 or end - begin != nbytes or min(shape, default=0) < 0:
        raise CheckpointError(
            f"{file}: {name!r} has {end - begin} bytes where {dtype} {list(shape)} takes {nbytes}"
        )
    return TensorInfo(dtype, shape, nbytes, file, data + begin)
