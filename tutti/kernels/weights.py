"""The canonical form of a weight: what every format unpacks to and every kernel packs.

Owns the values `Dense`, `Quantized` and `Stacked`, and `dequantize` (`ops.quantize` is the other way). It knows
neither files (`formats`) nor how a device stores a weight (`linear`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

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
    """A weight as codes: w = (q - zero) * scale + shift, groups of `group_size` columns sharing one scale.

    `q`: int8 or uint8 [out, in], or floats of 8 bits; when `bits` divides 8 and q has in * bits / 8 columns, each byte
    holds 8 / bits codes, the first in the lowest bits, unsigned. `scale`: [out, groups]. `zero`: [out, groups], a
    number [] that all share, or None for zero. `group_size` = in_features means one scale per output channel. `axis` is
    the axis the groups run along (1: columns). `shift`: [out, groups], or None for zero: what formats store that give a
    group its minimum rather than the code of zero (no zero equals it where the scale is 0 or the quotient is rounded).

    What has few bits in a file may have as few here:
    `high`: uint8 [out, in / 8 or in / 4], the one or two bits of each code above those in `q`, packed as these are.
    `table`: int8 [2**bits], what the codes stand for where they are no numbers themselves.
    `coarse`: [out, groups / n], multiplies the scales of n groups each, which are then whole numbers (int8 or uint8);
    `coarse_shift` does it with the shifts.
    """

    q: Tensor
    scale: Tensor
    zero: Tensor | None
    group_size: int
    bits: int = 8
    axis: int = 1
    shift: Tensor | None = None
    high: Tensor | None = None
    table: Tensor | None = None
    coarse: Tensor | None = None
    coarse_shift: Tensor | None = None

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
    def floats(self) -> bool:
        """Whether the codes are floats."""
        return self.q.dtype.is_floating_point

    @property
    def per_channel(self) -> bool:
        """Whether each output channel has a single scale."""
        return self.scale.shape[1] == 1

    @property
    def plain(self) -> bool:
        """Whether codes and scales are complete in `q` and `scale`."""
        return self.high is None and self.table is None and self.coarse is None and self.shift is None

    @property
    def high_bits(self) -> int:
        """Bits of each code that are in `high`."""
        return 0 if self.high is None else 8 * self.high.shape[1] // self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors but the table."""
        return sum(tensor.nbytes for tensor in self._by_rows().values())

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for weights whose rows can be stacked."""
        zero = self.zero if self.zero is not None and self.zero.dim() == 0 else None
        return (
            self.bits,
            self.group_size,
            *((name, tensor.dtype, tensor.shape[1:]) for name, tensor in self._by_rows().items()),
            None if zero is None else zero.item(),
            None if self.table is None else tuple(self.table.tolist()),
        )

    def codes(self) -> Tensor:
        """The codes one a byte, [out, in]."""
        codes = self.q if self.shape[1] == self.q.shape[1] else _spread(self.q, self.bits)
        return codes if self.high is None else codes | _spread(self.high, self.high_bits) << self.bits

    def map_rows(self, change: Callable[[Tensor], Tensor]) -> Quantized:
        """The weight with `change` made to the rows of every tensor that has the weight's rows."""
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self._by_rows().items()}
        return replace(self, **changed)

    def select(self, rows: Tensor | slice) -> Quantized:
        """The rows `rows`, int64 or a slice."""
        return self.map_rows(lambda tensor: tensor[rows])

    def _by_rows(self) -> dict[str, Tensor]:
        """The tensors that have a row for each of the weight's, by the fields' names."""
        found = {name: getattr(self, name) for name in _BY_ROWS}
        if self.zero is not None and self.zero.dim() == 0:
            del found["zero"]
        return {name: tensor for name, tensor in found.items() if tensor is not None}


_BY_ROWS = ("q", "high", "scale", "coarse", "shift", "coarse_shift", "zero")


@dataclass(frozen=True, slots=True)
class Stacked:
    """Weights of one width, one above the other, that are not quantized alike."""

    parts: tuple[Dense | Quantized, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]


Weight = Dense | Quantized | Stacked


def dequantize(weight: Weight, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight as a tensor [out, in] of `dtype`, computed in float32."""
    if isinstance(weight, Dense):
        return weight.tensor.to(dtype)
    if isinstance(weight, Stacked):
        return torch.cat([dequantize(part, dtype) for part in weight.parts])
    columns = weight.shape[1]

    def spread(fine: Tensor, coarse: Tensor | None = None) -> Tensor:
        wide = fine.float()
        if wide.shape[1] == 1 and coarse is None:
            return wide
        if coarse is not None:
            wide = coarse.float().repeat_interleave(wide.shape[1] // coarse.shape[1], 1) * wide
        return wide.repeat_interleave(weight.group_size, 1)[:, :columns]

    codes = weight.codes()
    values = codes.float() if weight.table is None else weight.table[codes.int()].float()
    if weight.zero is not None:
        values = values - (weight.zero.float() if weight.zero.dim() == 0 else spread(weight.zero))
    values = values * spread(weight.scale, weight.coarse)
    if weight.shift is not None:
        values = values + spread(weight.shift, weight.coarse_shift)
    return values.to(dtype)


def stack(weights: Sequence[Weight], dtype: torch.dtype) -> Weight:
    """The weights stacked by rows: codes stay codes, dense ones become one tensor, of `dtype` if theirs differ."""
    parts = [part for one in weights for part in (one.parts if isinstance(one, Stacked) else (one,))]
    alike = groupby(parts, lambda part: part.form if isinstance(part, Quantized) else None)
    joined = [_join(list(run), dtype) for _, run in alike]
    return joined[0] if len(joined) == 1 else Stacked(tuple(joined))


def _join(parts: list[Dense | Quantized], dtype: torch.dtype) -> Dense | Quantized:
    """Parts of one form as one."""
    if len(parts) == 1:
        return parts[0]
    quantized = [part for part in parts if isinstance(part, Quantized)]
    if quantized:
        joined: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in quantized]) for name in quantized[0]._by_rows()
        }
        return replace(quantized[0], **joined)
    tensors = [part.tensor for part in parts if isinstance(part, Dense)]
    alike = len({tensor.dtype for tensor in tensors}) == 1
    return Dense(torch.cat(tensors if alike else [tensor.to(dtype) for tensor in tensors]))


def take_rows(weight: Weight, rows: Tensor) -> Weight:
    """The rows `rows` int64 of the weight, in this order."""
    if isinstance(weight, Quantized):
        return weight.select(rows)
    if isinstance(weight, Dense):
        return Dense(weight.tensor[rows])
    return Dense(dequantize(weight)[rows])


def _spread(packed: Tensor, bits: int) -> Tensor:
    """Codes of `bits` bits in `packed` uint8 [out, bytes] -> uint8 [out, bytes * 8 / bits]."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return ((packed.view(torch.uint8)[..., None] >> shifts) & (2**bits - 1)).flatten(1)
