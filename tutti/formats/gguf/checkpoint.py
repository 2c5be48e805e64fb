"""A GGUF file as a checkpoint: the configuration, names and layouts that the model had before it was converted."""

from __future__ import annotations

import logging
import math
import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.gguf.blocks.kinds import KEPT, PLAIN, BlockType, dtype_of
from tutti.formats.gguf.changes import Made, Piece
from tutti.formats.gguf.config import read_config
from tutti.formats.gguf.metadata import file_type
from tutti.formats.gguf.naming import read_tensors
from tutti.formats.gguf.parts import read_model
from tutti.formats.gguf.projector import sees, whole_config, whole_tensors
from tutti.formats.gguf.reader import GGUFFile, Place, read_gguf
from tutti.formats.safetensors import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from tutti.kernels.weights import Weight

log = logging.getLogger(__name__)

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
        self._told: set[BlockType] = set()
        super().__init__(file.path, config, {name: self._describe(made) for name, made in self._made.items()})

    def tensor(self, name: str) -> Tensor:
        """See `Checkpoint.tensor`: a view of the file where nothing had to be undone or dequantized."""
        self._info(name)
        made = self._made[name]
        if made.change is None:
            return self._values(made.pieces[0])
        if made.change.moves and len(made.pieces) == 1:
            return self._values(made.pieces[0], made.change.rows(made.shape[0]))
        return made.change.values([self._values(piece) for piece in made.pieces])

    def weight(self, name: str) -> Weight:
        """See `Checkpoint.weight`: matrices stay quantized, unless their codes have no canonical form."""
        self._info(name)
        made = self._made[name]
        kind = self._kept(made)
        if kind is None:
            self._tell_dequantized(made)
            return super().weight(name)
        import torch

        from tutti.formats.gguf.blocks.dequantize import canonical

        rows = [self._rows(piece) for piece in made.pieces]
        data = rows[0] if len(rows) == 1 else torch.cat(rows)
        return canonical(data if made.change is None else data[made.change.rows(len(data))], kind)

    @property
    def nbytes(self) -> int:
        """See `Checkpoint.nbytes`: as the file has them."""
        return sum(place.nbytes for place in self.file.tensors.values())

    def kept_bytes(self, name: str) -> int | None:
        """See `Checkpoint.kept_bytes`."""
        self._info(name)
        made = self._made[name]
        kind = self._kept(made)
        return None if kind is None else int(math.prod(made.shape) * KEPT[kind] / 8)

    @property
    def quantization(self) -> str | None:
        """See `Checkpoint.quantization`: the name of the mix, or else of the type that most weights have."""
        sizes: Counter[str] = Counter()
        for place in self.file.tensors.values():
            if place.type.quantized:
                sizes[place.type.name] += math.prod(place.shape)
        if not sizes:
            return None
        return file_type(self.file.metadata.get("general.file_type")) or sizes.most_common(1)[0][0]

    def release(self, name: str) -> None:
        """See `Checkpoint.release`."""
        self._info(name)
        for file, begin, end in self._spans(self._made[name]):
            mapped = self._maps.get(file)
            if mapped is not None and end > begin:
                start = begin - begin % mmap.PAGESIZE
                mapped.madvise(mmap.MADV_DONTNEED, start, end - start)

    def _describe(self, made: Made) -> TensorInfo:
        kinds = {self.file.tensors[piece.tensor].type for piece in made.pieces}
        dtype = dtype_of(kinds.pop()) if len(kinds) == 1 else "float32"
        if made.change is not None and made.change.dtype is not None:
            dtype = made.change.dtype
        file, begin, _ = next(self._spans(made))
        shape = made.shape
        return TensorInfo(dtype, shape, math.prod(shape) * ITEM_BYTES[dtype], file, begin)

    def _spans(self, made: Made) -> Iterator[tuple[Path, int, int]]:
        """The file that has each piece, the piece's first byte there and the one behind its last."""
        for piece in made.pieces:
            place = self.file.tensors[piece.tensor]
            size = place.nbytes if piece.index is None else place.nbytes // place.shape[0]
            begin = place.offset + (piece.index or 0) * size
            yield place.file, begin, begin + size

    def _kept(self, made: Made) -> BlockType | None:
        """The type in which a tensor stays quantized; None for one that does not."""
        kinds = {self.file.tensors[piece.tensor].type for piece in made.pieces}
        kind = kinds.pop()
        matrix = len(made.shape) == 2 and math.prod(made.shape) > 0 and not made.floats
        moved = made.change is None or made.change.moves
        return kind if not kinds and matrix and moved and kind in KEPT else None

    def _tell_dequantized(self, made: Made) -> None:
        """Says once of each type that its tensors become floats."""
        for kind in {self.file.tensors[piece.tensor].type for piece in made.pieces} - self._told:
            if kind.quantized and kind not in KEPT:
                self._told.add(kind)
                log.warning(
                    "%s: tensors of type %s become floats while they are loaded and take the memory of floats",
                    self.path.name,
                    kind.name,
                )

    def _rows(self, piece: Piece) -> Tensor:
        """The bytes of a piece, uint8 [rows, bytes of a row]: a view of the file."""
        import torch

        (file, begin, end), *_ = self._spans(Made((piece,)))
        rows = math.prod(piece.shape[:-1])
        if begin == end:
            return torch.empty(rows, 0, dtype=torch.uint8)
        data = torch.frombuffer(self._map(file), dtype=torch.uint8, count=end - begin, offset=begin)
        return data.view(rows, -1)

    def _values(self, piece: Piece, order: Tensor | None = None) -> Tensor:
        """The values of a piece, its rows in `order`."""
        import torch

        place = self.file.tensors[piece.tensor]
        (file, begin, end), *_ = self._spans(Made((piece,)))
        if begin == end:
            return torch.empty(piece.shape, dtype=getattr(torch, dtype_of(place.type)))
        rows = self._rows(piece)
        if order is not None:
            if len(piece.shape) == 1:  # a vector's elements are its rows
                rows = rows.view(-1, _item_bytes(file, place))
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
    """The checkpoint in the GGUF file `path`, or the first of its parts, with what sees for it.

    Raises as `read_model` does, and CheckpointError for an architecture, or a tensor, that is not served.
    """
    file = read_model(path)
    config = read_config(file)
    made = read_tensors(file, config)
    projector = sees(file, config)
    if projector is not None:
        config = whole_config(file)
        made, places = whole_tensors(made, projector, config)
        file.tensors = {**file.tensors, **places}
    return GGUFCheckpoint(file, config, made)


def open_tensors(path: Path) -> GGUFCheckpoint:
    """The tensors of a GGUF file that is no model, under their own names. Raises as `read_gguf` does."""
    file = read_gguf(path)
    made = {name: Made((Piece(name, place.shape),)) for name, place in file.tensors.items()}
    return GGUFCheckpoint(file, {}, made)
