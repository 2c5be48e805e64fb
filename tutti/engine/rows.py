"""Rows that other stages computed for the tokens of a sequence: what an encoder saw, what a language model meant.

Two kinds, with one interface: `available` says how many of the sequence's tokens can be computed with what is here, and
`between` gives the rows of a step. Rows stay until the sequence ends, since a preempted sequence is computed again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor

from tutti.engine.kv.hashing import Mark
from tutti.errors import StageFailed
from tutti.models.protocols import Rows
from tutti.request import MediaInput


class TokenRows(Protocol):
    """The rows of one sequence."""

    @property
    def available(self) -> float:
        """How many tokens, from the first on, have what they need; infinite when nothing more is to come."""
        ...

    def between(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """(first token, rows) of every piece that lies in the tokens `start` to `stop`."""
        ...


class MediaRows:
    """Rows of the media in a prompt; `inputs` by the number of their part.

    They stand at the placeholders that the processor wrote, and all of them must be here before the first token runs.
    Media without spans stand nowhere: their rows are for a model that looks at them from every token.
    """

    def __init__(self, inputs: Mapping[int, MediaInput]) -> None:
        self._inputs = dict(inputs)
        self._rows: dict[int, Tensor] = {}
        self._spans = sorted(
            (start, length, part, before)
            for part, media in self._inputs.items()
            for (start, length), before in zip(media.spans, _before(media), strict=True)
        )

    @property
    def available(self) -> float:
        """See `TokenRows.available`."""
        return math.inf if len(self._rows) == len(self._inputs) else 0

    @property
    def marks(self) -> list[Mark]:
        """What the prefix cache must know of the placeholders: equal tokens stand for different pictures."""
        return [
            Mark(start, start + length, self._inputs[part].digest, before)
            for start, length, part, before in self._spans
        ]

    @property
    def wholes(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) of each run of tokens that look at each other both ways."""
        return tuple(
            (start, start + length) for start, length, part, _ in self._spans if self._inputs[part].mutual
        )

    @property
    def keys(self) -> list[str]:
        """The digests of the media that stand nowhere: the keys and values of all tokens depend on them."""
        return [media.digest for media in self._inputs.values() if not media.spans]

    @property
    def unplaced(self) -> list[tuple[MediaInput, Tensor]]:
        """The media that stand nowhere, in their order, with their rows."""
        return [(media, self._rows[part]) for part, media in self._inputs.items() if not media.spans]

    def put(self, part: int, rows: Tensor) -> None:
        """The encoder's `rows` [tokens, width] of part `part`. Raises StageFailed unless they fill its spans."""
        media = self._inputs[part]
        if media.spans and len(rows) != media.rows:
            raise StageFailed(
                f"the {media.modality} fills {media.rows} tokens, but its encoder gave {len(rows)} rows"
            )
        self._rows[part] = rows

    def between(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """See `TokenRows.between`."""
        for first, length, part, before in self._spans:
            low, high = max(start, first), min(stop, first + length)
            if low < high:
                offset = before - first
                yield low, self._rows[part][low + offset : high + offset]


class StreamedRows:
    """Rows that arrive while the sequence runs, one for every token of its prompt and of its output."""

    def __init__(self) -> None:
        self._pieces: list[Tensor] = []
        self._ends: list[int] = []  # of the pieces, in tokens
        self._last: Tensor | None = None

    @property
    def available(self) -> float:
        """See `TokenRows.available`."""
        if self._last is not None:
            return math.inf
        return self._known

    def push(self, more: Rows) -> None:
        """Take what comes next; with `more.last` nothing else does, and every later token has that row."""
        self._ends.append(self._known + len(more.rows))
        self._pieces.append(more.rows)
        self._last = more.last

    def between(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """See `TokenRows.between`."""
        index = bisect_right(self._ends, start)
        while start < min(stop, self._known):
            piece, end = self._pieces[index], self._ends[index]
            offset = end - len(piece)
            yield start, piece[start - offset : stop - offset]
            start, index = min(end, stop), index + 1
        if start < stop:
            assert self._last is not None
            yield start, self._last.expand(stop - start, -1)

    @property
    def _known(self) -> int:
        return self._ends[-1] if self._ends else 0


def _before(media: MediaInput) -> list[int]:
    """For every span, how many of the medium's rows come before it."""
    counts, total = [], 0
    for _, length in media.spans:
        counts.append(total)
        total += length
    return counts
