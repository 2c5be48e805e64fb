"""The element types of GGUF tensors: how many elements share a block, and how many bytes it takes. No torch.

Source: ggml's enum ggml_type and the sizes of its block structures.
"""

from __future__ import annotations

from dataclasses import dataclass

from tutti.errors import CheckpointError

F32, F16, BF16 = 0, 1, 30


@dataclass(frozen=True, slots=True)
class BlockType:
    """A tensor type: its number in files, its name, and a block's elements and bytes."""

    id: int
    name: str
    elements: int
    nbytes: int


ALL = (
    BlockType(F32, "F32", 1, 4),
    BlockType(F16, "F16", 1, 2),
    BlockType(2, "Q4_0", 32, 18),
    BlockType(3, "Q4_1", 32, 20),
    BlockType(6, "Q5_0", 32, 22),
    BlockType(7, "Q5_1", 32, 24),
    BlockType(8, "Q8_0", 32, 34),
    BlockType(9, "Q8_1", 32, 36),
    BlockType(10, "Q2_K", 256, 84),
    BlockType(11, "Q3_K", 256, 110),
    BlockType(12, "Q4_K", 256, 144),
    BlockType(13, "Q5_K", 256, 176),
    BlockType(14, "Q6_K", 256, 210),
    BlockType(15, "Q8_K", 256, 292),
    BlockType(16, "IQ2_XXS", 256, 66),
    BlockType(17, "IQ2_XS", 256, 74),
    BlockType(18, "IQ3_XXS", 256, 98),
    BlockType(19, "IQ1_S", 256, 50),
    BlockType(20, "IQ4_NL", 32, 18),
    BlockType(21, "IQ3_S", 256, 110),
    BlockType(22, "IQ2_S", 256, 82),
    BlockType(23, "IQ4_XS", 256, 136),
    BlockType(24, "I8", 1, 1),
    BlockType(25, "I16", 1, 2),
    BlockType(26, "I32", 1, 4),
    BlockType(27, "I64", 1, 8),
    BlockType(28, "F64", 1, 8),
    BlockType(29, "IQ1_M", 256, 56),
    BlockType(BF16, "BF16", 1, 2),
    BlockType(34, "TQ1_0", 256, 54),
    BlockType(35, "TQ2_0", 256, 66),
    BlockType(39, "MXFP4", 32, 17),
)
_BY_ID = {kind.id: kind for kind in ALL}


def by_id(number: int) -> BlockType:
    """The type of that number. Raises CheckpointError for one that is not known (or was removed from the format)."""
    kind = _BY_ID.get(number)
    if kind is None:
        raise CheckpointError(
            f"tensor type {number} of ggml is not known; the file is newer than Tutti, or damaged"
        )
    return kind
