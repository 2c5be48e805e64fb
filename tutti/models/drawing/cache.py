"""Feature caches: steps of which most of the network is not computed, since little has changed since the last time.

What a row of a batch keeps is its own, and each row decides for itself, so a request's picture does not depend on what
is drawn beside it. A row that skips takes what the blocks added to its hidden states the last time they ran for it; the
others go on without it.

    FirstBlockCache  looks at what the first block adds, and skips the others (ParaAttention's FBCache, diffusers')
    TeaCache         looks at what goes into the first block, scaled and shifted by the time, and skips all blocks (Liu
                     et al. 2024); the changes add up until the blocks run again
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tutti.request import Drawing


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What a row keeps between two passes: `seen` and `added` [tokens, width], in the network's type.

    `seen` is what the cache looks at, `added` what the blocks added when they last ran, `drift` what has changed.
    """

    seen: Tensor
    added: Tensor
    drift: float = 0.0
    skipped: bool = False  # whether the last pass took `added` instead of computing


@dataclass(frozen=True, slots=True)
class FeatureCache(ABC):
    """When a row skips: while its drift is less than `threshold`. 0 never skips."""

    threshold: float

    early: ClassVar[bool]  # whether it looks at what goes into the first block, or at what that block adds
    renews: ClassVar[bool]  # whether it compares with the last pass, or with the last one that was computed
    finishes: ClassVar[bool]  # whether the last step is always computed

    @abstractmethod
    def drift(self, before: float, change: float) -> float:
        """The drift after a relative `change`; `before` counts from the last pass that was computed."""


@dataclass(frozen=True, slots=True)
class FirstBlockCache(FeatureCache):
    """See the module."""

    early: ClassVar[bool] = False
    renews: ClassVar[bool] = False
    finishes: ClassVar[bool] = False

    def drift(self, before: float, change: float) -> float:
        """See `FeatureCache.drift`."""
        return change


@dataclass(frozen=True, slots=True)
class TeaCache(FeatureCache):
    """See the module. `curve` makes of a change of the input one of the output: a polynomial, highest power first."""

    curve: tuple[float, ...] = (1.0, 0.0)

    early: ClassVar[bool] = True
    renews: ClassVar[bool] = True
    finishes: ClassVar[bool] = True

    def drift(self, before: float, change: float) -> float:
        """See `FeatureCache.drift`."""
        value = 0.0
        for coefficient in self.curve:
            value = value * change + coefficient
        return before + max(0.0, value)


def cache_of(drawing: Drawing, curve: tuple[float, ...]) -> FeatureCache | None:
    """The cache that a picture is drawn with, of a network with TeaCache's `curve`."""
    threshold = drawing.cache_threshold or 0.0
    if drawing.cache == "first_block":
        return FirstBlockCache(threshold)
    return TeaCache(threshold, curve) if drawing.cache == "teacache" else None


class Pass:
    """One pass of the network for the rows of a batch. `left` are the rows that are still computed, in order."""

    def __init__(
        self, caches: Sequence[FeatureCache | None], memories: Sequence[Memory | None], last: Sequence[bool]
    ) -> None:
        """Of each row: its cache, what it kept, and whether this is its last step."""
        self.rows = len(caches)
        self.left = list(range(self.rows))
        self.memories = list(memories)  # and those after the pass, when it has ended
        self._caches = caches
        self._last = last
        self._seen: dict[int, Tensor] = {}  # of rows that are computed
        self._base: dict[int, Tensor] = {}  # the hidden states that `added` counts from

    @property
    def cached(self) -> bool:
        """Whether any row has a cache."""
        return any(self._caches)

    @property
    def early(self) -> bool:
        """Whether any row looks at what goes into the first block."""
        return any(cache is not None and cache.early for cache in self._caches)

    def enter(self, hidden: Sequence[Tensor], signals: Sequence[Tensor]) -> None:
        """Before the first block: `hidden` and the modulated `signals` of each row, [tokens, width] each.

        Rows that skip all blocks are `left` no more.
        """
        watching = self._watching(early=True)
        self._decide({row: signals[row].clone() for row in watching}, {row: hidden[row] for row in watching})

    def look(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """After the first block: the hidden states of the rows that are left, `before` and `after` it."""
        place = {row: number for number, row in enumerate(self.left)}
        watching = self._watching(early=False)
        seen = {row: after[place[row]] - before[place[row]] for row in watching}
        self._decide(seen, {row: after[place[row]] for row in watching})

    def end(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        """After the last block: the hidden states of all rows; `hidden` are those of the rows that are left."""
        found = dict(zip(self.left, hidden, strict=True))
        for row in self.left:
            if row in self._seen:
                self.memories[row] = Memory(self._seen[row], found[row] - self._base[row])
        for row in range(self.rows):
            if row not in found:
                memory = self.memories[row]
                assert memory is not None
                found[row] = self._base[row] + memory.added
        return [found[row] for row in range(self.rows)]

    def _watching(self, *, early: bool) -> list[int]:
        return [row for row in self.left if (cache := self._caches[row]) is not None and cache.early is early]

    def _decide(self, seen: Mapping[int, Tensor], base: Mapping[int, Tensor]) -> None:
        """Which of the rows that look now go on; `base` are the hidden states from here on."""
        self._base |= base
        known = {row: memory for row in seen if (memory := self.memories[row]) is not None}
        changes = _changes([(seen[row], memory.seen) for row, memory in known.items()])
        skips = set()
        for (row, memory), change in zip(known.items(), changes, strict=True):
            cache = self._caches[row]
            assert cache is not None
            drift = cache.drift(memory.drift, change)
            if drift < cache.threshold and not (cache.finishes and self._last[row]):
                skips.add(row)
                kept = seen[row] if cache.renews else memory.seen
                self.memories[row] = Memory(kept, memory.added, drift, skipped=True)
        self._seen |= {row: one for row, one in seen.items() if row not in skips}
        self.left = [row for row in self.left if row not in skips]


def _changes(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """How much each first tensor differs from the second, relative to it. One transfer from the device for all."""
    if not pairs:
        return []
    found = [
        (now.float() - before.float()).abs().mean() / before.float().abs().mean() for now, before in pairs
    ]
    changes: list[float] = torch.stack(found).tolist()
    return changes
