"""Conversations with media as token ids: each medium's placeholder grown to the rows that its encoder makes.

Positions are Qwen2.5-Omni's: a picture's cells stand at the position after what precedes them, plus their row and column;
what follows stands behind the picture's longer side. Text and sound go on one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from .sight import Grid
from .tokenizer import MEDIA_TOKENS, encode_chats
from .values import Chat, Message

_STEP = 8


@dataclass(frozen=True, slots=True)
class Example:
    """`ids`, whether each is `learned` (of an answer), `positions` int64 [3, tokens]."""

    ids: list[int]
    learned: list[bool]
    positions: Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """What one conversation shows: a recording of so many rows, a picture of such cells, or both."""

    sound: int = 0
    cells: Grid | None = None


@dataclass(frozen=True, slots=True)
class Sequences:
    """Conversations together, padded on the right. `ids`, `targets` int64 [conversations, tokens] (targets: the next token,
    or -100 where nothing is learned), `positions` int64 [3, conversations, tokens]."""

    ids: Tensor
    targets: Tensor
    positions: Tensor


def examples(
    tokenizer: Tokenizer, conversations: Sequence[tuple[Message, ...]], rows: Iterable[Rows]
) -> list[Example]:
    """Each conversation with the media it shows."""
    chats = [Chat("", "en", (), messages) for messages in conversations]
    sound, image = (tokenizer.token_to_id(MEDIA_TOKENS[f"{kind}_token"]) for kind in ("audio", "image"))
    return [
        _example(ids, learned, shown, sound, image)
        for (ids, learned), shown in zip(encode_chats(tokenizer, chats), rows, strict=True)
    ]


def _example(ids: list[int], learned: list[bool], rows: Rows, sound: int, image: int) -> Example:
    grown: list[int] = []
    marks: list[bool] = []
    pieces: list[Tensor] = []
    position = 0
    for token, mark in zip(ids, learned, strict=True):
        count = 1
        if token == image:
            assert rows.cells is not None
            count = rows.cells[0] * rows.cells[1]
            down, across = (
                p.flatten() for p in torch.meshgrid(*map(torch.arange, rows.cells), indexing="ij")
            )
            pieces.append(position + torch.stack([torch.zeros_like(down), down, across]))
            position += max(rows.cells)
        else:
            count = rows.sound if token == sound else 1
            pieces.append((position + torch.arange(count)).expand(3, -1))
            position += count
        grown += [token] * count
        marks += [mark] * count
    return Example(grown, marks, torch.cat(pieces, 1))


def stack(batch: Sequence[Example]) -> Sequences:
    """Examples together; few lengths, since oneDNN makes and keeps code for each one."""
    length = -(-max(len(e.ids) for e in batch) // _STEP) * _STEP
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    targets = torch.full((len(batch), length), -100)
    positions = torch.zeros(3, len(batch), length, dtype=torch.long)
    for row, example in enumerate(batch):
        tokens = torch.tensor(example.ids)
        ids[row, : len(tokens)] = tokens
        targets[row, : len(tokens) - 1] = torch.where(torch.tensor(example.learned[1:]), tokens[1:], -100)
        positions[:, row] = F.pad(example.positions, (0, length - len(tokens)))
    return Sequences(ids, targets, positions)
