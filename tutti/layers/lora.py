"""Low-rank additions to linear layers (Hu et al. 2021): y = x W^T + x A^T B^T, with W as it is, quantized or not."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import linear


@dataclass(frozen=True, slots=True)
class LowRank:
    """What one adapter adds to a matrix: `a` [rank, in], `b` [out, rank], the adapter's scale inside `b`."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True, slots=True)
class Addition:
    """A `LowRank` of a slot of a linear layer, whose columns of the output begin at `start`."""

    change: LowRank
    start: int

    @property
    def bytes(self) -> int:
        """Bytes of memory it holds."""
        return self.change.a.nbytes + self.change.b.nbytes

    def add(self, x: Tensor, y: Tensor) -> None:
        """Adds to `y` [tokens, out_features], in place, what `x` [tokens, in_features] gives."""
        added = linear(linear(x, self.change.a), self.change.b)
        y[:, self.start : self.start + added.shape[1]] += added
