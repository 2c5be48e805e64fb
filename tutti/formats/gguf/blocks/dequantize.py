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
from tutti.kernels.weights import Dense, Quantized, Weight

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


def canonical(data: Tensor, kind: BlockType) -> Weight:
    """The canonical form of a matrix, `data` uint8 [rows, bytes of a row].

    Codes stay codes, packed where they have at most four bits; `weights.dequantize` of the form equals `dequantize`
    here. Plain types are `Dense` views. Of the types with tables (IQ1 to IQ3) nothing but values can be kept: a `Dense`
    of bfloat16. Raises CheckpointError as `dequantize` does.
    """
    elements = _elements(data, kind)
    if kind in PLAIN:
        return Dense(data.contiguous().view(getattr(torch, PLAIN[kind])))
    if kind not in UNPACK:
        return Dense(dequantize(data, kind, torch.bfloat16))
    parts = [_form(data[part], kind, elements) for part in _slices(len(data), elements)]
    zeros, shifts = ([form.zero for form in parts], [form.shift for form in parts])
    return Quantized(
        torch.cat([form.q for form in parts]),
        torch.cat([form.scale for form in parts]),
        torch.cat([zero for zero in zeros if zero is not None]) if zeros[0] is not None else None,
        parts[0].group_size,
        parts[0].bits,
        shift=torch.cat([shift for shift in shifts if shift is not None]) if shifts[0] is not None else None,
    )


def _form(rows: Tensor, kind: BlockType, elements: int) -> Quantized:
    """The canonical form of a few rows."""
    parts: Codes = UNPACK[kind](rows.reshape(-1, kind.nbytes))
    count = len(rows)
    codes, scale = parts.codes.reshape(count, elements), parts.scale.reshape(count, -1)
    shift = None if parts.shift is None else parts.shift.reshape(count, -1)
    group = elements // scale.shape[1]
    if parts.bits > 4:  # a byte each, the zero in them
        signed = codes.to(torch.int8) - parts.zero if parts.zero else codes
        return Quantized(signed, scale, None, group, shift=shift)
    bits = 2 if parts.bits <= 2 else 4
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    packed = (codes.unflatten(1, (-1, 8 // bits)) << shifts).sum(-1, dtype=torch.uint8)
    zero = torch.full(scale.shape, parts.zero, dtype=torch.uint8, device=scale.device) if parts.zero else None
    return Quantized(packed, scale, zero, group, bits, shift=shift)


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
