"""Every tensor type of ggml as a value. No torch.

The numbers are part of the file format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutti.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class BlockType:
    """A tensor type: its number in files, its name, and a block's elements and bytes."""

    id: int
    name: str
    elements: int
    nbytes: int

    @property
    def quantized(self) -> bool:
        """Whether elements share a block; otherwise each stands for itself."""
        return self.elements > 1

    @property
    def bits(self) -> float:
        """Bits per element."""
        return 8 * self.nbytes / self.elements

    def fits(self, elements: int) -> bool:
        """Whether a row of so many elements is made of whole blocks."""
        return elements % self.elements == 0

    def row_bytes(self, elements: int) -> int:
        """Bytes of a row of `elements`. Raises CheckpointError when they are no whole blocks."""
        if not self.fits(elements):
            raise CheckpointError(
                f"a row of {elements} elements is no multiple of {self.name}'s blocks of {self.elements}"
            )
        return elements // self.elements * self.nbytes

    def nbytes_of(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor [..., row]. Raises CheckpointError as `row_bytes` does."""
        return math.prod(shape[:-1]) * self.row_bytes(shape[-1])


F32 = BlockType(0, "F32", 1, 4)
F16 = BlockType(1, "F16", 1, 2)
Q4_0 = BlockType(2, "Q4_0", 32, 18)
Q4_1 = BlockType(3, "Q4_1", 32, 20)
Q5_0 = BlockType(6, "Q5_0", 32, 22)
Q5_1 = BlockType(7, "Q5_1", 32, 24)
Q8_0 = BlockType(8, "Q8_0", 32, 34)
Q8_1 = BlockType(9, "Q8_1", 32, 36)
Q2_K = BlockType(10, "Q2_K", 256, 84)
Q3_K = BlockType(11, "Q3_K", 256, 110)
Q4_K = BlockType(12, "Q4_K", 256, 144)
Q5_K = BlockType(13, "Q5_K", 256, 176)
Q6_K = BlockType(14, "Q6_K", 256, 210)
Q8_K = BlockType(15, "Q8_K", 256, 292)
IQ2_XXS = BlockType(16, "IQ2_XXS", 256, 66)
IQ2_XS = BlockType(17, "IQ2_XS", 256, 74)
IQ3_XXS = BlockType(18, "IQ3_XXS", 256, 98)
IQ1_S = BlockType(19, "IQ1_S", 256, 50)
IQ4_NL = BlockType(20, "IQ4_NL", 32, 18)
IQ3_S = BlockType(21, "IQ3_S", 256, 110)
IQ2_S = BlockType(22, "IQ2_S", 256, 82)
IQ4_XS = BlockType(23, "IQ4_XS", 256, 136)
I8 = BlockType(24, "I8", 1, 1)
I16 = BlockType(25, "I16", 1, 2)
I32 = BlockType(26, "I32", 1, 4)
I64 = BlockType(27, "I64", 1, 8)
F64 = BlockType(28, "F64", 1, 8)
IQ1_M = BlockType(29, "IQ1_M", 256, 56)
BF16 = BlockType(30, "BF16", 1, 2)
TQ1_0 = BlockType(34, "TQ1_0", 256, 54)
TQ2_0 = BlockType(35, "TQ2_0", 256, 66)
MXFP4 = BlockType(39, "MXFP4", 32, 17)

ALL = (
    F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K, IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S,
    IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, I8, I16, I32, I64, F64, IQ1_M, BF16, TQ1_0, TQ2_0, MXFP4,
)  # fmt: skip
_BY_ID = {kind.id: kind for kind in ALL}

# Bits of an element of what stays quantized in memory: codes as in the file, scales and minima of super-blocks in a
# byte each, exponents in two.
KEPT = {
    Q4_0: 4.5,
    Q4_1: 5.0,
    Q5_0: 5.5,
    Q5_1: 6.0,
    Q8_0: 8.5,
    Q2_K: 3.125,
    Q3_K: 3.5625,
    Q4_K: 4.625,
    Q5_K: 5.625,
    Q6_K: 6.5625,
    IQ4_NL: 4.5,
    IQ4_XS: 4.3125,
    TQ1_0: 2.0625,
    TQ2_0: 2.0625,
    MXFP4: 4.5,
}

PLAIN = {
    F32: "float32",
    F16: "float16",
    BF16: "bfloat16",
    F64: "float64",
    I8: "int8",
    I16: "int16",
    I32: "int32",
    I64: "int64",
}
"""Types that torch has, by its names of them; a tensor of one is a view of the file."""


def dtype_of(kind: BlockType) -> str:
    """torch's name of the type that a tensor has when it is taken apart."""
    return PLAIN.get(kind, "float32")


def by_id(number: int) -> BlockType:
    """The type of that number. Raises CheckpointError for one that is not known (or was removed from the format)."""
    kind = _BY_ID.get(number)
    if kind is None:
        raise CheckpointError(
            f"tensor type {number} of ggml is not known; the file is newer than this program, or damaged"
        )
    return kind


# What takes a type's place where rows are no multiple of its blocks: llama.cpp's choices, except that it has IQ4_NL
# where Q4_0 (of the same size) stands here.
_SMALLER_BLOCKS = {
    Q2_K: Q4_0,
    Q3_K: Q4_0,
    Q4_K: Q5_0,
    Q5_K: Q5_1,
    Q6_K: Q8_0,
}


def fitting(kind: BlockType, elements: int) -> BlockType:
    """`kind`, or what takes its place in rows of `elements`: a type with blocks of 32, or F16 where none fits."""
    for choice in (kind, _SMALLER_BLOCKS.get(kind, kind)):
        if choice.fits(elements):
            return choice
    return F16
