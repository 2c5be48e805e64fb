"""Codes of a few bits in bytes, and half-precision numbers in bytes: what all block layouts are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(packed: Tensor, span: int, bits: int) -> Tensor:
    """The codes of `bits` bits in `packed` uint8 [blocks, bytes] -> uint8 [blocks, bytes * 8 / bits].

    Each run of `span` bytes holds first the lowest codes of all its bytes, then the next ones:

        span 2, bits 4:  | c a | d b |  ->  a b c d      (the right digit of a byte is its low one)
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    codes = packed.unflatten(-1, (-1, 1, span)) >> shifts[:, None]
    return codes.bitwise_and_(2**bits - 1).flatten(1)


def gather(codes: Tensor, span: int, bits: int) -> Tensor:
    """The other way: codes uint8 [blocks, elements], each below 2**bits -> uint8 [blocks, elements * bits / 8]."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    runs = codes.unflatten(-1, (-1, 8 // bits, span)) << shifts[:, None]
    return runs.sum(-2, dtype=torch.uint8).flatten(1)


def halves(packed: Tensor) -> Tensor:
    """The float16 numbers in `packed` uint8 [blocks, 2 * numbers] -> [blocks, numbers]."""
    return packed.contiguous().view(torch.float16)


def half_bytes(numbers: Tensor) -> Tensor:
    """`numbers` [blocks, numbers] as float16 -> uint8 [blocks, 2 * numbers]."""
    return numbers.to(torch.float16).contiguous().view(torch.uint8)


def scales_6bit(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The scales and minima of Q4_K and Q5_K: uint8 [blocks, 12] -> two of [blocks, 8], each below 64.

    Bytes 0-3 hold the first four scales in their low six bits, bytes 4-7 the first four minima; the top two bits of
    these eight belong to the other four scales and minima, whose low four bits share bytes 8-11.
    """
    first, second, low = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (low & 15) | (first >> 6 << 4)), 1)
    minima = torch.cat((second & 63, (low >> 4) | (second >> 6 << 4)), 1)
    return scales, minima


def scales_6bit_bytes(scales: Tensor, minima: Tensor) -> Tensor:
    """The other way of `scales_6bit`."""
    first = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    second = minima[:, :4] | (minima[:, 4:] >> 4 << 6)
    low = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
    return torch.cat((first, second, low), 1)
