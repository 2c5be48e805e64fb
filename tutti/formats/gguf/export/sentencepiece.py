"""The pieces of a SentencePiece model file (`tokenizer.model`), read without its library.

The file is one protocol-buffer message, ModelProto; its field 1 repeats the pieces, each a message of 1: text,
2: score (float32) and 3: kind (https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tutti.errors import CheckpointError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece: `kind` is 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte, GGUF's numbers too."""

    text: str
    score: float
    kind: int


def read_pieces(file: Path) -> list[Piece]:
    """The pieces of `file` in order. Raises CheckpointError when it is no such file."""
    try:
        pieces = [
            _piece(body)
            for field, body in _fields(file.read_bytes())
            if field == 1 and isinstance(body, bytes)
        ]
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(f"{file} is not a SentencePiece model: {error}") from error
    if not pieces:
        raise CheckpointError(f"{file} is not a SentencePiece model: it has no pieces")
    return pieces


def _piece(message: bytes) -> Piece:
    text, score, kind = "", 0.0, 1
    for field, body in _fields(message):
        if field == 1 and isinstance(body, bytes):
            text = body.decode()
        elif field == 2 and isinstance(body, bytes):
            (score,) = struct.unpack("<f", body)
        elif field == 3 and isinstance(body, int):
            kind = body
    return Piece(text, score, kind)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a message: (number, bytes or an integer)."""
    at = 0
    while at < len(message):
        tag, at = _integer(message, at)
        form = tag & 7
        if form == _VARINT:
            value, at = _integer(message, at)
            yield tag >> 3, value
            continue
        if form == _BYTES:
            length, at = _integer(message, at)
        elif form in (_FIXED32, _FIXED64):
            length = 4 if form == _FIXED32 else 8
        else:
            raise ValueError(f"unknown form {form} of a field")
        if at + length > len(message):
            raise ValueError("it is cut short")
        yield tag >> 3, message[at : at + length]
        at += length


def _integer(message: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
