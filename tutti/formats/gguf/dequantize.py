"""Rows of blocks to values: the one place where block types are taken apart.

Weights are dequantized while they are loaded, a tensor at a time: a model takes the memory of its computing type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tutti.errors import CheckpointError
from tutti.formats.gguf.types import BF16, F16, F32, BlockType

if TYPE_CHECKING:
    from torch import Tensor

# Types that torch has, by its names of them; a tensor of one is a view of the file.
PLAIN = {
    F32: "float32",
    F16: "float16",
    BF16: "bfloat16",
    24: "int8",
    25: "int16",
    26: "int32",
    27: "int64",
    28: "float64",
}


def dtype_of(kind: BlockType) -> str:
    """torch's name of the type that `dequantize` gives."""
    return PLAIN.get(kind.id, "float32")


def dequantize(data: Tensor, kind: BlockType) -> Tensor:
    """`data` uint8 [rows, bytes of a row] -> [rows, elements of a row]: a view where torch has the type.

    Raises CheckpointError for a type that no weight is stored in (Q8_1, Q8_K).
    """
    import torch

    if kind.id in PLAIN:
        return data.view(getattr(torch, PLAIN[kind.id]))
    import gguf

    try:
        values = gguf.quants.dequantize(data.numpy(), gguf.GGMLQuantizationType(kind.id))
    except NotImplementedError as error:
        raise CheckpointError(f"tensors of the type {kind.name} cannot be dequantized") from error
    return torch.from_numpy(values)
