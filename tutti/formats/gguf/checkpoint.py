"""A GGUF file as a checkpoint: the configuration, names and layouts that the model had before it was converted."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.gguf.blocks.kinds import PLAIN, dtype_of
from tutti.formats.gguf.changes import Made, Piece
from tutti.formats.gguf.config import read_config
from tutti.formats.gguf.naming import read_tensors
from tutti.formats.gguf.reader import GGUFFile, Place, read_gguf
from tutti.formats.safetensors import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

ITEM_BYTES = {
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "int8": 1,
}


class GGUFCheckpoint(Checkpoint):
    """An opened GGUF file. `tensors` says what `tensor` gives: quantized ones count as they are when dequantized."""

    def __init__(self, file: GGUFFile, config: dict[str, Any], made: dict[str, Made]) -> None:
        """`made` says what each tensor is made of."""
        self.file = file
        self._made = made
        super().__init__(file.path, config, {name: self._describe(made) for name, made in self._made.items()})

    def tensor(self, name: str) -> Tensor:
        """See `Checkpoint.tensor`: a view of the file where nothing had to be undone or dequantized."""
        self._info(name)
        made = self._made[name]
        order = None if made.change is None else made.change.rows(made.shape[0])
        if made.change is None or order is not None:
            return self._values(made.pieces[0], order)
        return made.change.values([self._values(piece) for piece in made.pieces])

    def release(self, name: str) -> None:
        """See `Checkpoint.release`."""
        self._info(name)
        mapped = self._maps.get(self.path)
        for begin, end in self._spans(self._made[name]):
            if mapped is not None and end > begin:
                start = begin - begin % mmap.PAGESIZE
                mapped.madvise(mmap.MADV_DONTNEED, start, end - start)

    def _describe(self, made: Made) -> TensorInfo:
        kinds = {self.file.tensors[piece.tensor].type for piece in made.pieces}
        dtype = dtype_of(kinds.pop()) if len(kinds) == 1 else "float32"
        if made.change is not None and made.change.dtype is not None:
            dtype = made.change.dtype
        begin, _ = next(self._spans(made))
        shape = made.shape
        return TensorInfo(dtype, shape, math.prod(shape) * ITEM_BYTES[dtype], self.file.path, begin)

    def _spans(self, made: Made) -> Iterator[tuple[int, int]]:
        """The first byte of each piece in the file, and the one behind its last."""
        for piece in made.pieces:
            place = self.file.tensors[piece.tensor]
            size = place.nbytes if piece.index is None else place.nbytes // place.shape[0]
            begin = place.offset + (piece.index or 0) * size
            yield begin, begin + size

    def _values(self, piece: Piece, order: Tensor | None = None) -> Tensor:
        """The values of a piece, its rows in `order`."""
        import torch

        place = self.file.tensors[piece.tensor]
        (begin, end), *_ = self._spans(Made((piece,)))
        if begin == end:
            return torch.empty(piece.shape, dtype=getattr(torch, dtype_of(place.type)))
        data = torch.frombuffer(self._map(self.path), dtype=torch.uint8, count=end - begin, offset=begin)
        rows = data.view(math.prod(piece.shape[:-1]), -1)
        if order is not None:
            if len(piece.shape) == 1:  # a vector's elements are its rows
                rows = rows.view(-1, _item_bytes(self.path, place))
            rows = rows[order]
        elif begin % place.type.nbytes and place.type in PLAIN:
            rows = rows.clone()  # torch needs aligned elements
        if place.type in PLAIN:
            return rows.view(getattr(torch, PLAIN[place.type])).view(piece.shape)
        from tutti.formats.gguf.blocks.dequantize import dequantize

        return dequantize(rows, place.type).view(piece.shape)


def _item_bytes(path: Path, place: Place) -> int:
    """Bytes of an element. Raises CheckpointError where elements share a block."""
    if place.type.elements > 1:
        raise CheckpointError(
            f"{path}: {place.name} is a vector in {place.type.name}, whose elements cannot be moved"
        )
    return place.type.nbytes


def open_gguf(path: Path) -> GGUFCheckpoint:
    """The checkpoint in the GGUF file `path`.

    Raises as `read_gguf` does, and CheckpointError for an architecture, or a tensor, that is not served.
    """
    file = read_gguf(path)
    config = read_config(file)
    return GGUFCheckpoint(file, config, read_tensors(file, config))


def open_tensors(path: Path) -> GGUFCheckpoint:
    """The tensors of a GGUF file that is no model, under their own names. Raises as `read_gguf` does."""
    file = read_gguf(path)
    made = {name: Made((Piece(name, place.shape),)) for name, place in file.tensors.items()}
    return GGUFCheckpoint(file, {}, made)
