"""What a tensor of the original checkpoint is made of, and how: the converters' changes undone.

A change that moves rows alone (`rows`) is made of bytes, before blocks are taken apart, so that what is quantized may
stay so. No torch until a tensor is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from tutti.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of the file, or item `index` of its first extent; `shape` is of the piece."""

    tensor: str
    shape: Shape
    index: int | None = None


class Change(Protocol):
    """What is done to the pieces; `dtype` is torch's name of what comes out, None for that of the pieces.

    `moves` says that rows are moved and nothing else: `rows` has where.
    """

    dtype: ClassVar[str | None]
    moves: ClassVar[bool]

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape of what comes out. Raises CheckpointError when the pieces are not what they should be."""
        ...

    def rows(self, count: int) -> Tensor | None:
        """Where in the pieces, one after the other, each of the result's `count` rows is, int64; None: see `values`."""
        ...

    def values(self, pieces: list[Tensor]) -> Tensor:
        """What comes out of the pieces' values."""
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor made of `pieces`; without a change it is the one there is.

    `floats`: the model takes the matrix apart, so that it cannot stay quantized.
    """

    pieces: tuple[Piece, ...]
    change: Change | None = None
    floats: bool = False

    @property
    def shape(self) -> Shape:
        """The tensor's shape. Raises CheckpointError."""
        shapes = tuple(piece.shape for piece in self.pieces)
        return shapes[0] if self.change is None else self.change.shape(shapes)


class _Rows:
    """A change that moves rows alone."""

    __slots__ = ()
    dtype: ClassVar[str | None] = None
    moves: ClassVar[bool] = True

    def values(self, pieces: list[Tensor]) -> Tensor:
        """See `Change.values`."""
        import torch

        whole = torch.cat(pieces)
        return whole[self.rows(len(whole))]

    def rows(self, count: int) -> Tensor:
        """See `Change.rows`."""
        raise NotImplementedError


class _Values:
    """A change that needs the values."""

    __slots__ = ()
    dtype: ClassVar[str | None] = None
    moves: ClassVar[bool] = False

    def rows(self, count: int) -> Tensor | None:
        """See `Change.rows`."""
        return None


@dataclass(frozen=True, slots=True)
class Straightened(_Rows):
    """Llama's queries or keys: files have the two columns that turn together side by side, here they are halves apart.

    Of each head, | a b a b a b | becomes | a a a b b b |.
    """

    heads: int

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """See `Change.shape`."""
        return _divided(shapes[0], 2 * self.heads)

    def rows(self, count: int) -> Tensor:
        """See `Change.rows`."""
        import torch

        return torch.arange(count).view(self.heads, -1, 2).transpose(1, 2).flatten()


@dataclass(frozen=True, slots=True)
class Regrouped(_Rows):
    """Falcon's fused projection: files have | all q | all k | all v |, the original groups, each | q q q k v |."""

    heads: int
    kv_heads: int

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """See `Change.shape`."""
        if self.heads % self.kv_heads:
            raise CheckpointError(f"{self.heads} heads cannot share {self.kv_heads} of keys and values")
        return _divided(shapes[0], self.heads + 2 * self.kv_heads)

    def rows(self, count: int) -> Tensor:
        """See `Change.rows`."""
        import torch

        width = count // (self.heads + 2 * self.kv_heads)
        query, key, value = (
            part.view(self.kv_heads, -1, width)
            for part in torch.arange(count).split(
                [self.heads * width, self.kv_heads * width, self.kv_heads * width]
            )
        )
        return torch.cat([query, key, value], dim=1).flatten()


@dataclass(frozen=True, slots=True)
class Alternated(_Rows):
    """Rows of the first and the second piece in turn."""

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """See `Change.shape`."""
        return (2 * shapes[0][0], *shapes[0][1:])

    def rows(self, count: int) -> Tensor:
        """See `Change.rows`."""
        import torch

        return torch.arange(count).view(2, -1).T.flatten()


@dataclass(frozen=True, slots=True)
class Shifted(_Values):
    """Every value plus `by`."""

    dtype: ClassVar[str | None] = "float32"
    by: float

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """See `Change.shape`."""
        return shapes[0]

    def values(self, pieces: list[Tensor]) -> Tensor:
        """See `Change.values`."""
        return pieces[0].float() + self.by


@dataclass(frozen=True, slots=True)
class Reshaped(_Values):
    """A tensor that was stored in rows of another length: `whole` is the shape that it had."""

    whole: Shape

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """See `Change.shape`."""
        if math.prod(self.whole) != math.prod(shapes[0]):
            raise CheckpointError(f"a tensor {list(shapes[0])} cannot have been {list(self.whole)}")
        return self.whole

    def values(self, pieces: list[Tensor]) -> Tensor:
        """See `Change.values`."""
        return pieces[0].reshape(self.whole)


@dataclass(frozen=True, slots=True)
class Latent(_Values):
    """DeepSeek's kv_b_proj, per head the keys' rows and the values' rows.

    The keys' piece is [heads, rank, columns of a key], turned on its side; the values' [heads, columns, rank].
    """

    def shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """See `Change.shape`."""
        (heads, rank, key), (others, value, same) = shapes
        if heads != others or rank != same:
            raise CheckpointError(
                f"attn_k_b {list(shapes[0])} and attn_v_b {list(shapes[1])} do not fit together"
            )
        return heads * (key + value), rank

    def values(self, pieces: list[Tensor]) -> Tensor:
        """See `Change.values`."""
        import torch

        return torch.cat([pieces[0].transpose(1, 2), pieces[1]], dim=1).flatten(0, 1)


def _divided(shape: Shape, parts: int) -> Shape:
    """`shape`, if its rows are so many equal parts. Raises CheckpointError."""
    if not shape or shape[0] % parts or not math.prod(shape):
        raise CheckpointError(f"a tensor {list(shape)} cannot be divided into {parts} parts")
    return shape
