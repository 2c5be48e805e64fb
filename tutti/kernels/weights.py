"""The canonical form of a weight: what every format unpacks to and every kernel packs.

Owns the two values `Dense` and `Quantized`, and `dequantize` (`ops.quantize_int8` is the other way). It knows neither
files (`formats`) nor how a device stores a weight (`linear`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Dense:
    """A weight as it is: `tensor` [out, in] in a floating dtype."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.tensor.shape[0], self.tensor.shape[1]


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight as integer codes: w = (q - zero) * scale + shift, groups of `group_size` columns sharing one scale.

    `q`: int8 or uint8 [out, in]; when `bits` divides 8 and q has in * bits / 8 columns, each byte holds 8 / bits codes,
    the first in the lowest bits, unsigned. `scale`: floating [out, groups]. `zero`: [out, groups], or None for zero.
    `group_size` = in_features means one scale per output channel. `axis` is the axis the groups run along (1: columns).
    `shift`: floating [out, groups], or None for zero: what formats store that give a group its minimum rather than the
    code of zero (no zero equals it where the scale is 0 or the quotient is rounded).
    """

    q: Tensor
    scale: Tensor
    zero: Tensor | None
    group_size: int
    bits: int = 8
    axis: int = 1
    shift: Tensor | None = None

    def __post_init__(self) -> None:
        if self.axis != 1:
            raise ValueError(
                f"quantized weight: groups along axis {self.axis}; only axis 1 (columns) is supported"
            )
        if self.bits not in (1, 2, 4, 8):
            raise ValueError(f"quantized weight: {self.bits} bits; only 1, 2, 4 and 8 are supported")
        if self.scale.shape[0] != self.q.shape[0]:
            raise ValueError(
                f"quantized weight: {self.scale.shape[0]} rows of scales for {self.q.shape[0]} rows"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        packed = self.scale.shape[1] * self.group_size >= self.q.shape[1] * 8 // self.bits
        return self.q.shape[0], self.q.shape[1] * (8 // self.bits if packed else 1)

    @property
    def per_channel(self) -> bool:
        """Whether each output channel has a single scale."""
        return self.scale.shape[1] == 1

    def codes(self) -> Tensor:
        """The codes one a byte, [out, in]."""
        if self.shape[1] == self.q.shape[1]:
            return self.q
        shifts = torch.arange(0, 8, self.bits, dtype=torch.uint8, device=self.q.device)
        spread = (self.q.view(torch.uint8)[..., None] >> shifts) & (2**self.bits - 1)
        return spread.flatten(1)


Weight = Dense | Quantized


def dequantize(weight: Weight, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight as a tensor [out, in] of `dtype`, computed in float32."""
    if isinstance(weight, Dense):
        return weight.tensor.to(dtype)
    columns = weight.shape[1]
    values = weight.codes().float()
    scale = weight.scale.float().repeat_interleave(weight.group_size, 1)[:, :columns]
    if weight.zero is not None:
        values = values - weight.zero.float().repeat_interleave(weight.group_size, 1)[:, :columns]
    values = values * scale
    if weight.shift is not None:
        values = values + weight.shift.float().repeat_interleave(weight.group_size, 1)[:, :columns]
    return values.to(dtype)
