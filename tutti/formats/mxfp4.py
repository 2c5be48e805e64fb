"""MXFP4: 4-bit floating-point codes in blocks of 32 that share a power of two (OCP Microscaling Formats 1.0).

A checkpoint keeps a weight [..., out, in] as `NAME_blocks` uint8 [..., out, in / 32, 16], two codes a byte, the first
in the low bits, and `NAME_scales` uint8 [..., out, in / 32], exponents biased by 127. A code is sign, two bits of
exponent and one of mantissa (E2M1): 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. No torch until `unpack`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tutti.errors import CheckpointError
from tutti.formats.safetensors import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from tutti.kernels.weights import Quantized

BLOCKS, SCALES = "_blocks", "_scales"
BLOCK = 32  # codes
TWICE = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # 2 * value of each code: whole numbers


def shapes(tensors: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by its plain name, packed ones as [..., out, in].

    Raises CheckpointError where blocks have no scales or scales that do not fit.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, info in tensors.items():
        if name.endswith(SCALES) and name.removesuffix(SCALES) + BLOCKS in tensors:
            continue
        if not name.endswith(BLOCKS):
            found[name] = info.shape
            continue
        base = name.removesuffix(BLOCKS)
        scales = tensors.get(base + SCALES)
        if scales is None:
            raise CheckpointError(f"the checkpoint has {name} but no {base}{SCALES}; fetch it again")
        if info.dtype != "uint8" or info.shape != (*scales.shape, BLOCK // 2):
            raise CheckpointError(
                f"{name} is {info.dtype} {list(info.shape)}, which does not fit {base}{SCALES} {list(scales.shape)}"
            )
        found[base] = (*scales.shape[:-1], scales.shape[-1] * BLOCK)
    return found


def kept_bytes(tensors: Mapping[str, TensorInfo], name: str) -> int:
    """Bytes that the packed weight `name` takes in memory, where each exponent has two."""
    return tensors[name + BLOCKS].nbytes + 2 * tensors[name + SCALES].nbytes


def unpack(blocks: Tensor, scales: Tensor) -> Quantized:
    """The canonical form of one matrix: `blocks` uint8 [out, in / 32, 16], `scales` uint8 [out, in / 32].

    Twice an E2M1 value is a whole number, so that a table has them and the scale is half the block's.
    """
    import torch

    from tutti.kernels.weights import Quantized

    values = torch.tensor(TWICE, dtype=torch.int8, device=blocks.device)
    return Quantized(blocks.flatten(1), half_power(scales), None, group_size=BLOCK, bits=4, table=values)


def half_power(exponents: Tensor) -> Tensor:
    """2 ** (exponent - 128) for `exponents` uint8, as bfloat16, which has all of them; the first two are subnormal."""
    import torch

    wide = exponents.int()
    bits = torch.where(wide < 2, 0x0020 << wide.clamp(max=1), (wide - 1) << 7)
    return bits.to(torch.int16).view(torch.bfloat16)
