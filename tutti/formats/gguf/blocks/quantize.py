"""Values to rows of blocks, in slices: temporaries stay at a few megabytes whatever the tensor's size."""

from __future__ import annotations

import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.blocks.pack import PACK
from tutti.formats.gguf.blocks.unpack import UNPACK

SLICE = 1 << 17  # elements worked on at once

FLOATS = {kinds.F32: torch.float32, kinds.F16: torch.float16, kinds.BF16: torch.bfloat16}
TARGETS = (*FLOATS, *PACK)


def quantize(x: Tensor, kind: BlockType) -> Tensor:
    """`x` floating [..., elements of a row] -> uint8 [..., bytes of a row].

    Raises CheckpointError when rows are no whole blocks, when a value is not finite or too large for the type (float16
    holds the scales), or for a type that can only be read.
    """
    if kind not in FLOATS and kind not in PACK:
        raise CheckpointError(f"tensors of type {kind.name} can be read but not made")
    row = kind.row_bytes(x.shape[-1])
    blocks = x.reshape(-1, kind.elements)
    result = torch.empty(len(blocks), kind.nbytes, dtype=torch.uint8, device=x.device)
    step = SLICE // kind.elements
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step].float()
        if not part.isfinite().all():
            raise CheckpointError("a weight has values that are not finite (NaN or infinity); it is damaged")
        result[start : start + step] = _packed(part, kind)
    return result.view(*x.shape[:-1], row)


def _packed(part: Tensor, kind: BlockType) -> Tensor:
    """float32 [blocks, elements] -> uint8 [blocks, bytes]. Raises CheckpointError."""
    if kind in FLOATS:
        values = part.to(FLOATS[kind])
        scales, packed = values, values.view(torch.uint8).view(len(part), kind.nbytes)
    else:
        packed = PACK[kind](part)
        parts = UNPACK[kind](packed)
        scales = parts.scale if parts.coarse is None else parts.coarse
    if not scales.isfinite().all():
        raise CheckpointError(
            f"values up to {part.abs().max().item():.3g} are too large for the type {kind.name}; use bf16 or f32"
        )
    return packed
