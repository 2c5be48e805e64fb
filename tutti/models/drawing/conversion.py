"""From the names that a file's authors gave its tensors to those of diffusers' and transformers' modules.

diffusers has functions that rename the tensors of a network, and split and join them. Here these are given stand-ins,
which note the rows of the file's tensors that come one above the other:

    double_blocks.0.img_attn.qkv.weight   | q | k | v |   ->   transformer_blocks.0.attn.to_k.weight   | k |

So nothing is read until a module is filled, and what is quantized stays so, since whole rows move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.kernels.weights import Dense, Quantized, Weight, dequantize, stack


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of the tensor `name`, from `start` to before `stop`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A stand-in for a tensor: `pieces` one above the other. `turned`: rows and columns have changed places since.

    It has as much of a tensor's interface as diffusers' functions use. `shape` is the tensor's.
    """

    pieces: tuple[Piece, ...]
    shape: tuple[int, ...]
    stored: tuple[int, ...]  # the shape of what has been read, before it is turned or loses extents of 1
    turned: bool = False

    @staticmethod
    def of(name: str, shape: Sequence[int]) -> Rows:
        """The whole tensor `name`."""
        rows = shape[0] if shape else 1
        return Rows((Piece(name, 0, rows),), tuple(shape), tuple(shape))

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """torch.chunk, torch.split and torch.cat of stand-ins."""
        kwargs = kwargs or {}
        first, *others = args
        if function is torch.cat:
            return _above_each_other(first)
        known: dict[Any, Callable[..., Any]] = {torch.chunk: cls.chunk, torch.split: cls.split}
        return known.get(function, _refuse)(first, *others, **kwargs)

    @property
    def ndim(self) -> int:
        """How many extents there are."""
        return len(self.shape)

    @property
    def T(self) -> Rows:
        """A matrix with rows and columns changed."""
        return replace(self, shape=self.shape[::-1], turned=not self.turned)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Rows, ...]:
        """See torch.chunk."""
        return self.split([self.shape[0] // chunks] * chunks, dim)

    def split(self, sizes: Sequence[int], dim: int = 0) -> tuple[Rows, ...]:
        """See torch.split. What are the widths of the usual model in diffusers' code are taken as proportions."""
        total = sum(sizes)
        scaled = [size * self.shape[0] for size in sizes]
        if dim or self.turned or any(size % total for size in scaled):
            raise ValueError(f"{list(self.shape)} cannot be split into {list(sizes)}")
        found, start = [], 0
        for size in scaled:
            found.append(self[start : start + size // total])
            start += size // total
        return tuple(found)

    def __getitem__(self, index: Any) -> Rows:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(first, slice) and all(one == slice(None) for one in rest) and not self.turned:
            return self._rows(range(*first.indices(self.shape[0])))
        plain = [one for one in (first, *rest) if one == slice(None)]
        dropped = self.shape[len(plain) :]
        if len(plain) + len(dropped) == 1 + len(rest) and all(extent == 1 for extent in dropped):
            return replace(self, shape=self.shape[: len(plain)])
        raise ValueError(f"{list(self.shape)} cannot be indexed by {index}")

    def _rows(self, wanted: range) -> Rows:
        pieces, begin = [], 0
        for piece in self.pieces:
            count = piece.stop - piece.start
            start, stop = max(wanted.start - begin, 0), min(wanted.stop - begin, count)
            if start < stop:
                pieces.append(Piece(piece.name, piece.start + start, piece.start + stop))
            begin += count
        return Rows(tuple(pieces), (len(wanted), *self.shape[1:]), (len(wanted), *self.stored[1:]))

    def reshaped(self, shape: Sequence[int]) -> Rows:
        """The tensor in this shape where only extents of 1 make the difference: GGUF files may have lost these."""
        own, wanted = ([extent for extent in one if extent != 1] for one in (self.shape, shape))
        return replace(self, shape=tuple(shape)) if own == wanted and not self.turned else self

    def contiguous(self) -> Rows:
        """Itself, as the next two."""
        return self

    def clone(self) -> Rows:
        """See `contiguous`."""
        return self

    def detach(self) -> Rows:
        """See `contiguous`."""
        return self

    def read(self, weight: Callable[[str], Weight]) -> Weight:
        """The tensor, of the file's tensors that `weight` gives; quantized where these are and whole rows moved."""
        parts = [_part(weight(piece.name), piece) for piece in self.pieces]
        found = parts[0] if len(parts) == 1 else stack(parts, torch.float32)
        if self.shape == self.stored and not self.turned:
            return found
        values = dequantize(found).reshape(self.shape[::-1] if self.turned else self.shape)
        return Dense(values.T if self.turned else values)


def _part(weight: Weight, piece: Piece) -> Weight:
    rows = slice(piece.start, piece.stop)
    if isinstance(weight, Quantized):
        return weight if piece.stop - piece.start == weight.shape[0] else weight.select(rows)
    tensor: Tensor = dequantize(weight) if not isinstance(weight, Dense) else weight.tensor
    return Dense(tensor[rows] if tensor.dim() else tensor)


def _above_each_other(parts: Sequence[Rows]) -> Rows:
    """See torch.cat, of rows."""
    if any(part.turned or part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise ValueError("stand-ins of different widths cannot be joined")
    rows = sum(part.shape[0] for part in parts)
    pieces: list[Piece] = []
    for piece in (piece for part in parts for piece in part.pieces):
        if pieces and pieces[-1].name == piece.name and pieces[-1].stop == piece.start:
            piece = Piece(piece.name, pieces.pop().start, piece.stop)
        pieces.append(piece)
    return Rows(tuple(pieces), (rows, *parts[0].shape[1:]), (rows, *parts[0].stored[1:]))


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise ValueError("an operation that is not known of stand-ins")


_UNET = "model.diffusion_model."  # diffusers looks for a UNet's tensors under names that begin so


def network_rows(
    kind: str, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Rows]:
    """What the tensors of diffusers' class `kind` are made of, where a file has tensors of these `shapes`.

    Raises CheckpointError where the file is of another network, or lacks a tensor.
    """
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    known: Any = SINGLE_FILE_LOADABLE_CLASSES.get(kind)
    if known is None:
        raise CheckpointError(f"{kind} is read in diffusers' names only, and these are others")
    given = {
        _UNET + name if kind.startswith("UNet") else name: Rows.of(name, shape)
        for name, shape in shapes.items()
    }
    try:
        found = known["checkpoint_mapping_fn"](checkpoint=given, config=dict(config))
    except KeyError as error:
        raise CheckpointError(f"it has no tensor {error}, which a {kind} has") from error
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(f"its tensors are not those of a {kind} ({error})") from error
    return {name: rows for name, rows in found.items() if rows is not None}


def encoder_rows(width: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Rows]:
    """The same of a text encoder of that `width`, whose file has transformers' names, or OpenCLIP's."""
    given = {name: Rows.of(name, shape) for name, shape in shapes.items()}
    if "transformer.resblocks.0.attn.in_proj_weight" not in shapes:
        return given
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    module = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    found: dict[str, Rows] = convert_open_clip_checkpoint(module, given, prefix="")
    return found
