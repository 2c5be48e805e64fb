"""Values to blocks, one function for each type: the inverse of `unpack`.

The types with one scale a block (Q4_0 to Q8_0) equal `gguf.quants.quantize` bit for bit. The super-blocks of the K
types find scales by `search`, round those to a few bits, and then round each value by what its scale has become.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.bits import gather, half_bytes, scales_6bit_bytes
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.blocks.search import symmetric, with_minimum


def _q8_0(x: Tensor) -> Tensor:
    scale = x.abs().amax(1, keepdim=True) / 127
    scaled = x * _inverse(scale)
    magnitude = scaled.abs()
    whole = magnitude.floor()
    codes = scaled.sign() * (whole + (2 * (magnitude - whole)).floor())  # halves away from zero
    return torch.cat((half_bytes(scale), codes.to(torch.int8).view(torch.uint8)), 1)


def _q4_0(x: Tensor) -> Tensor:
    scale, codes = _signed(x, 16)
    return torch.cat((half_bytes(scale), gather(codes, 16, 4)), 1)


def _q5_0(x: Tensor) -> Tensor:
    scale, codes = _signed(x, 32)
    return torch.cat((half_bytes(scale), gather(codes >> 4, 1, 1), gather(codes & 15, 16, 4)), 1)


def _q4_1(x: Tensor) -> Tensor:
    scale, minimum, codes = _from_minimum(x, 15)
    return torch.cat((half_bytes(scale), half_bytes(minimum), gather(codes, 16, 4)), 1)


def _q5_1(x: Tensor) -> Tensor:
    scale, minimum, codes = _from_minimum(x, 31)
    low, high = gather(codes & 15, 16, 4), gather(codes >> 4, 1, 1)
    return torch.cat((half_bytes(scale), half_bytes(minimum), high, low), 1)


def _signed(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Scale [blocks, 1] and codes of `levels` levels; the value of largest magnitude has the code 0."""
    largest = x.gather(1, x.abs().argmax(1, keepdim=True))
    scale = largest / -(levels // 2)
    return scale, _truncated(x * _inverse(scale) + (levels // 2 + 0.5), levels - 1)


def _from_minimum(x: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and minimum [blocks, 1], and codes from 0 to `top`."""
    minimum = x.amin(1, keepdim=True)
    scale = (x.amax(1, keepdim=True) - minimum) / top
    return scale, minimum, _truncated((x - minimum) * _inverse(scale) + 0.5, top)


def _truncated(x: Tensor, top: int) -> Tensor:
    return x.nan_to_num_(0.0).trunc_().clamp_(0, top).to(torch.uint8)


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0.0, 1 / scale)


def _q4_k(x: Tensor) -> Tensor:
    coarse, scales, minima, codes = _with_minima(x, group=32, top=15, most=63)
    return torch.cat((half_bytes(coarse), scales_6bit_bytes(scales, minima), gather(codes, 32, 4)), 1)


def _q5_k(x: Tensor) -> Tensor:
    coarse, scales, minima, codes = _with_minima(x, group=32, top=31, most=63)
    high, low = gather(codes >> 4, 32, 1), gather(codes & 15, 32, 4)
    return torch.cat((half_bytes(coarse), scales_6bit_bytes(scales, minima), high, low), 1)


def _q2_k(x: Tensor) -> Tensor:
    coarse, scales, minima, codes = _with_minima(x, group=16, top=3, most=15)
    return torch.cat((scales | minima << 4, gather(codes, 32, 2), half_bytes(coarse)), 1)


def _q6_k(x: Tensor) -> Tensor:
    coarse, factors, codes = _with_signs(x, half=32, most=128)
    low, high = gather(codes & 15, 64, 4), gather(codes >> 4, 32, 2)
    return torch.cat((low, high, factors.view(torch.uint8), half_bytes(coarse)), 1)


def _q3_k(x: Tensor) -> Tensor:
    coarse, factors, codes = _with_signs(x, half=4, most=32)
    raised = (factors + 32).view(torch.uint8)
    scales = torch.cat((gather(raised & 15, 8, 4), gather(raised >> 4, 4, 2)), 1)
    return torch.cat((gather(codes >> 2, 32, 1), gather(codes & 3, 32, 2), scales, half_bytes(coarse)), 1)


def _with_minima(x: Tensor, group: int, top: int, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scale and minimum of super-blocks [n, 2], those of groups as multiples (0 to `most`) [n, groups], codes."""
    x = x.unflatten(1, (-1, group))
    scale, minimum = with_minimum(x, top)
    coarse = _rounded_out(torch.stack((scale.amax(1), minimum.amax(1)), 1) / most)
    scales, minima = _multiples(scale, coarse[:, :1], 0, most), _multiples(minimum, coarse[:, 1:], 0, most)
    shifted = x + (coarse[:, 1:].float() * minima)[..., None]
    codes = (shifted * _inverse(coarse[:, :1].float() * scales)[..., None]).nan_to_num_(0.0)
    codes = codes.round_().clamp_(0, top).to(torch.uint8).flatten(1)
    return coarse, scales.to(torch.uint8), minima.to(torch.uint8), codes


def _with_signs(x: Tensor, half: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scale of super-blocks [n, 1], those of groups of 16 as multiples (-most to most - 1) int8 [n, 16], codes."""
    x = x.unflatten(1, (-1, 16))
    scale = symmetric(x, -half, half - 1)
    largest = scale.gather(1, scale.abs().argmax(1, keepdim=True))
    coarse = _rounded_out(largest / -most)
    factors = _multiples(scale, coarse, -most, most - 1)
    codes = (x * _inverse(coarse.float() * factors)[..., None]).nan_to_num_(0.0)
    codes = (codes.round_().clamp_(-half, half - 1) + half).to(torch.uint8).flatten(1)
    return coarse, factors.to(torch.int8), codes


def _rounded_out(scale: Tensor) -> Tensor:
    """`scale` as float16; where that has few bits left (below 6e-5), never smaller, so that nothing is cut off."""
    half = scale.to(torch.float16)
    bits = half.view(torch.int16) + (half.float().abs() < 0.999 * scale.abs()).to(torch.int16)
    return bits.view(torch.float16)


def _multiples(scale: Tensor, unit: Tensor, low: int, high: int) -> Tensor:
    return (scale * _inverse(unit.float())).nan_to_num_(0.0).round_().clamp_(low, high)


PACK: dict[BlockType, Callable[[Tensor], Tensor]] = {
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
}
