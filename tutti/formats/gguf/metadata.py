"""The values of a GGUF file's metadata, with the types the format gives them. No torch.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A value is a scalar, a string or an array of
such; arrays of arrays exist on paper alone and are not written.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

# llama.cpp's numbers of file types (its enum llama_ftype); those that are missing were removed.
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
}


class ValueType(IntEnum):
    """The number of a value's type in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_FORMATS = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One value: `value` of type `kind`; an array's elements are of type `of`."""

    kind: ValueType
    value: Any
    of: ValueType | None = None

    def packed(self) -> bytes:
        """The bytes in the file, without the type's number before them."""
        if self.kind is not ValueType.ARRAY:
            return _packed(self.kind, [self.value])
        assert self.of is not None and self.of is not ValueType.ARRAY, "arrays hold scalars or strings"
        return struct.pack("<IQ", self.of, len(self.value)) + _packed(self.of, self.value)


Metadata = dict[str, Field]


def text(value: str) -> Field:
    """A string."""
    return Field(ValueType.STRING, value)


def integer(value: int) -> Field:
    """A count or a number of a token, as uint32."""
    return Field(ValueType.UINT32, value)


def number(value: float) -> Field:
    """A float32."""
    return Field(ValueType.FLOAT32, value)


def flag(value: bool) -> Field:
    """A boolean."""
    return Field(ValueType.BOOL, value)


def texts(values: Sequence[str]) -> Field:
    """An array of strings."""
    return Field(ValueType.ARRAY, list(values), ValueType.STRING)


def integers(values: Sequence[int]) -> Field:
    """An array of int32."""
    return Field(ValueType.ARRAY, list(values), ValueType.INT32)


def numbers(values: Sequence[float]) -> Field:
    """An array of float32."""
    return Field(ValueType.ARRAY, list(values), ValueType.FLOAT32)


def packed_text(value: str) -> bytes:
    """A string as the file has it: its length in bytes, then UTF-8. Lone surrogates stay what they are."""
    data = value.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(data)) + data


def _packed(kind: ValueType, values: Sequence[Any]) -> bytes:
    if kind is ValueType.STRING:
        return b"".join(map(packed_text, values))
    return struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def file_type(number: object) -> str:
    """The name of the quantization that `general.file_type` numbers: Q4_K_M, F16, ...; "" for one that is not known."""
    return FILE_TYPES.get(number, "") if isinstance(number, int) else ""
