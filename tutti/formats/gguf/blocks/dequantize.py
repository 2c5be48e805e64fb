"""Rows of blocks to values, or to the kernels' canonical form, in slices: temporaries stay at tens of megabytes.

Values equal `gguf.quants.dequantize`'s bit for bit in float32. The types with tables of lattice points (IQ1 to IQ3) are
dequantized by that package itself, which carries the tables.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.kinds import PLAIN, BlockType
from tutti.formats.gguf.blocks.unpack import UNPACK, Codes
from tutti.kernels.weights import Dense, Quantized, stack

SLICE = 1 << 20  # elements worked on at once

BY_PACKAGE = (
    kinds.IQ2_XXS, kinds.IQ2_XS, kinds.IQ2_S, kinds.IQ3_XXS, kinds.IQ3_S, kinds.IQ1_S, kinds.IQ1_M,
)  # fmt: skip


def dequantize(data: Tensor, kind: BlockType, dtype: torch.dtype = torch.float32) -> Tensor:
    """`data` uint8 [..., bytes of a row] -> [..., elements of a row] in `dtype`, computed in float32.

    Raises CheckpointError when rows are no whole blocks, or for a type that no weight is stored in (Q8_1, Q8_K).
    """
    elements = _elements(data, kind)
    if kind in PLAIN:
        return data.contiguous().view(getattr(torch, PLAIN[kind])).to(dtype)
    blocks = data.reshape(-1, kind.nbytes)
    values = torch.empty(len(blocks), kind.elements, dtype=dtype, device=data.device)
    for part in _slices(len(blocks), kind.elements):
        values[part] = _values(blocks[part], kind)
    return values.view(*data.shape[:-1], elements)


def canonical(data: Tensor, kind: BlockType) -> Dense | Quantized:
    """The canonical form of a matrix, `data` uint8 [rows, bytes of a row].

    Codes stay codes, packed as tightly as in the file or nearly so (`kinds.KEPT`); `weights.dequantize` of the form
    equals `dequantize` here. Plain types are `Dense` views. Of the types with tables of lattice points (IQ1 to IQ3)
    nothing but values can be kept: a `Dense` of bfloat16. Raises CheckpointError as `dequantize` does.
    """
    elements = _elements(data, kind)
    if kind in PLAIN:
        return Dense(data.contiguous().view(getattr(torch, PLAIN[kind])))
    if kind not in UNPACK:
        return Dense(dequantize(data, kind, torch.bfloat16))
    forms = [_form(data[part], kind, elements) for part in _slices(len(data), elements)]
    joined = stack(forms, torch.float32)
    assert isinstance(joined, Quantized)
    return joined


def _form(rows: Tensor, kind: BlockType, elements: int) -> Quantized:
    """The canonical form of a few rows."""
    parts: Codes = UNPACK[kind](rows.reshape(-1, kind.nbytes))

    def by_rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.reshape(len(rows), -1)

    codes, scale = parts.codes.reshape(len(rows), elements), parts.scale.reshape(len(rows), -1)
    bits = 2 if parts.bits < 4 else min(parts.bits // 4 * 4, 8)
    high = parts.bits - bits if parts.bits > 2 else 0
    return Quantized(
        codes if bits == 8 else _packed(codes & (2**bits - 1), bits),
        scale,
        torch.tensor(parts.zero, dtype=torch.uint8, device=codes.device) if parts.zero else None,
        elements // scale.shape[1],
        bits,
        shift=by_rows(parts.shift),
        high=_packed(codes >> bits, high) if high else None,
        table=None
        if parts.table is None
        else torch.tensor(parts.table, dtype=torch.int8, device=codes.device),
        coarse=by_rows(parts.coarse),
        coarse_shift=by_rows(parts.coarse_shift),
    )


def _packed(codes: Tensor, bits: int) -> Tensor:
    """Codes of `bits` bits, one a byte -> uint8 [rows, elements * bits / 8], the first in the lowest bits."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    return (codes.unflatten(1, (-1, 8 // bits)) << shifts).sum(-1, dtype=torch.uint8)


def _elements(data: Tensor, kind: BlockType) -> int:
    """Elements of a row of `data`. Raises CheckpointError."""
    if data.dtype != torch.uint8:
        raise ValueError(f"rows of blocks are uint8, not {data.dtype}")
    if kind not in PLAIN and kind not in UNPACK and kind not in BY_PACKAGE:
        raise CheckpointError(f"tensors of type {kind.name} hold no weights and cannot be dequantized")
    if data.shape[-1] % kind.nbytes:
        raise CheckpointError(
            f"a row of {data.shape[-1]} bytes is no multiple of {kind.name}'s blocks of {kind.nbytes}"
        )
    return data.shape[-1] // kind.nbytes * kind.elements


def _slices(count: int, elements: int) -> Iterator[slice]:
    """Slices of `count` things of `elements` each, of about SLICE elements."""
    step = max(1, SLICE // max(1, elements))
    for start in range(0, count, step):
        yield slice(start, start + step)


def _values(blocks: Tensor, kind: BlockType) -> Tensor:
    """float32 [blocks, elements]."""
    if kind in UNPACK:
        return UNPACK[kind](blocks).values()
    import gguf
    import numpy as np

    with np.errstate(invalid="ignore"):  # damaged blocks become NaN, as those of the other types
        values = gguf.quants.dequantize(blocks.cpu().numpy(), gguf.GGMLQuantizationType(kind.id))
    return torch.from_numpy(values).to(blocks.device)
