"""Blocks taken apart into codes and scales: one function for each type. All of them mean the same formula,

    value = (code - zero) * scale + shift      in float32, each operation rounded by itself

with `scale` and `shift` for groups of consecutive elements; in super-blocks these are whole numbers times a coarse
factor of the block. The layouts are ggml's, as the `gguf` package reads them
(https://github.com/ggml-org/llama.cpp/tree/master/gguf-py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.bits import halves, scales_6bit, spread
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.mxfp4 import TWICE, half_power

# The values of the codes of IQ4_NL and IQ4_XS, closer together around zero.
NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True, slots=True)
class Codes:
    """Blocks taken apart.

    `codes` uint8 or int8 [blocks, elements], which need `bits` bits; `scale` and `shift` (None: 0) [blocks, groups],
    whole numbers where `coarse` and `coarse_shift` [blocks, 1] multiply them, else floating. `zero` is subtracted from
    each code, or, where they are no numbers themselves, `table` int8 [2**bits] has what they stand for.
    """

    codes: Tensor
    scale: Tensor
    shift: Tensor | None = None
    zero: int = 0
    bits: int = 8
    table: tuple[int, ...] | None = None
    coarse: Tensor | None = None
    coarse_shift: Tensor | None = None

    def values(self) -> Tensor:
        """float32 [blocks, elements]."""
        groups = self.scale.shape[1]
        values = (self.codes if self.table is None else _looked_up(self.table, self.codes)).float()
        if self.zero:
            values.sub_(self.zero)
        values = values.unflatten(1, (groups, -1)).mul_(_product(self.scale, self.coarse)[..., None])
        if self.shift is not None:
            values.add_(_product(self.shift, self.coarse_shift)[..., None])
        return values.flatten(1)


def _product(fine: Tensor, coarse: Tensor | None) -> Tensor:
    return fine.float() if coarse is None else coarse.float() * fine.float()


def _q4_0(blocks: Tensor) -> Codes:
    return Codes(spread(blocks[:, 2:], 16, 4), halves(blocks[:, :2]), zero=8, bits=4)


def _q4_1(blocks: Tensor) -> Codes:
    return Codes(spread(blocks[:, 4:], 16, 4), halves(blocks[:, :2]), halves(blocks[:, 2:4]), bits=4)


def _q5_0(blocks: Tensor) -> Codes:
    codes = spread(blocks[:, 6:], 16, 4) | (spread(blocks[:, 2:6], 1, 1) << 4)
    return Codes(codes, halves(blocks[:, :2]), zero=16, bits=5)


def _q5_1(blocks: Tensor) -> Codes:
    codes = spread(blocks[:, 8:], 16, 4) | (spread(blocks[:, 4:8], 1, 1) << 4)
    return Codes(codes, halves(blocks[:, :2]), halves(blocks[:, 2:4]), bits=5)


def _q8_0(blocks: Tensor) -> Codes:
    return Codes(blocks[:, 2:].view(torch.int8), halves(blocks[:, :2]))


def _q2_k(blocks: Tensor) -> Codes:
    scales, coarse = blocks[:, :16], halves(blocks[:, 80:84])
    codes = spread(blocks[:, 16:80], 32, 2)
    return Codes(codes, scales & 15, scales >> 4, bits=2, coarse=coarse[:, :1], coarse_shift=-coarse[:, 1:])


def _q3_k(blocks: Tensor) -> Codes:
    high, scales = blocks[:, :32], blocks[:, 96:108]
    factors = (spread(scales[:, :8], 8, 4) | (spread(scales[:, 8:], 4, 2) << 4)).to(torch.int8) - 32
    codes = spread(blocks[:, 32:96], 32, 2) | (spread(high, 32, 1) << 2)
    return Codes(codes, factors, zero=4, bits=3, coarse=halves(blocks[:, 108:]))


def _q4_k(blocks: Tensor) -> Codes:
    return _with_minima(spread(blocks[:, 16:], 32, 4), blocks, 4)


def _q5_k(blocks: Tensor) -> Codes:
    codes = spread(blocks[:, 48:], 32, 4) | (spread(blocks[:, 16:48], 32, 1) << 4)
    return _with_minima(codes, blocks, 5)


def _with_minima(codes: Tensor, blocks: Tensor, bits: int) -> Codes:
    """Q4_K and Q5_K begin with a float16 scale and minimum, then eight scales and minima of six bits."""
    coarse = halves(blocks[:, :4])
    scales, minima = scales_6bit(blocks[:, 4:16])
    return Codes(codes, scales, minima, bits=bits, coarse=coarse[:, :1], coarse_shift=-coarse[:, 1:])


def _q6_k(blocks: Tensor) -> Codes:
    codes = spread(blocks[:, :128], 64, 4) | (spread(blocks[:, 128:192], 32, 2) << 4)
    factors = blocks[:, 192:208].view(torch.int8)
    return Codes(codes, factors, zero=32, bits=6, coarse=halves(blocks[:, 208:]))


def _iq4_nl(blocks: Tensor) -> Codes:
    return Codes(spread(blocks[:, 2:], 16, 4), halves(blocks[:, :2]), bits=4, table=NONLINEAR)


def _iq4_xs(blocks: Tensor) -> Codes:
    low, high = spread(blocks[:, 4:8], 1, 4), spread(blocks[:, 2:4], 1, 2)
    factors = (low | (high << 4)).to(torch.int8) - 32
    codes = spread(blocks[:, 8:], 16, 4)
    return Codes(codes, factors, bits=4, table=NONLINEAR, coarse=halves(blocks[:, :2]))


def _mxfp4(blocks: Tensor) -> Codes:
    return Codes(spread(blocks[:, 1:], 16, 4), half_power(blocks[:, :1]), bits=4, table=TWICE)


def _tq1_0(blocks: Tensor) -> Codes:
    """Five ternary digits a byte, as the fraction byte / 256: times a power of three (mod 256), its first digit."""
    runs = []
    for begin, end, digits in ((0, 32, 5), (32, 48, 5), (48, 52, 4)):
        powers = torch.tensor([3**n for n in range(digits)], dtype=torch.uint8, device=blocks.device)
        runs.append((blocks[:, None, begin:end] * powers[:, None]).flatten(1))
    codes = (torch.cat(runs, 1).short() * 3 >> 8).to(torch.uint8)
    return Codes(codes, halves(blocks[:, 52:]), zero=1, bits=2)


def _tq2_0(blocks: Tensor) -> Codes:
    return Codes(spread(blocks[:, :64], 32, 2), halves(blocks[:, 64:]), zero=1, bits=2)


def _looked_up(values: tuple[int, ...], codes: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int8, device=codes.device)[codes.int()]


UNPACK: dict[BlockType, Callable[[Tensor], Codes]] = {
    kinds.Q4_0: _q4_0,
    kinds.Q4_1: _q4_1,
    kinds.Q5_0: _q5_0,
    kinds.Q5_1: _q5_1,
    kinds.Q8_0: _q8_0,
    kinds.Q2_K: _q2_k,
    kinds.Q3_K: _q3_k,
    kinds.Q4_K: _q4_k,
    kinds.Q5_K: _q5_k,
    kinds.Q6_K: _q6_k,
    kinds.IQ4_NL: _iq4_nl,
    kinds.IQ4_XS: _iq4_xs,
    kinds.MXFP4: _mxfp4,
    kinds.TQ1_0: _tq1_0,
    kinds.TQ2_0: _tq2_0,
}
