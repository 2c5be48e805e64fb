"""The stage of one pass: encoders, VAEs, vocoders.

Items (the request's parts of the stage's modalities, or chunks that an edge brought) wait in order of arrival. A step
computes the oldest one and those that may share its batch, within a budget of cost; each gives one chunk. What has a
name (the digest of a picture) is kept, so that the same picture in a second turn costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutti.engine.kept import Kept
from tutti.engine.players import FILE, Players
from tutti.graph import Chunk
from tutti.models.protocols import OnceModel
from tutti.request import MediaInput, Part, Request, Tokens

_PATIENCE = 0.1  # seconds after which somebody waits for an item, as for a first token


@dataclass(frozen=True, slots=True, eq=False)
class OnceItem:
    """One thing to compute for one request; `final`: the request brings no more of them."""

    request_id: str
    value: Any
    final: bool
    arrival: float
    part: int | None = None  # of the request, if it is one
    key: str | None = None  # names its result


class Once:
    """Runs one `OnceModel` for many requests. See `stage.Runner`."""

    def __init__(
        self,
        name: str,
        model: OnceModel,
        *,
        budget: int,
        inputs: Sequence[str] = (),
        keep_bytes: int = 0,
        players: Players | None = None,
    ) -> None:
        """`inputs` are the modalities of the parts it takes; results of up to `keep_bytes` in all are kept."""
        self.name = name
        self.model = model
        self.budget = budget
        self.inputs = frozenset(inputs)
        self.kept = Kept(keep_bytes)
        self.items = 0
        self._players = players or Players()
        self._queue: deque[OnceItem] = deque()

    def admit(self, request: Request) -> None:
        """Queue the request's own inputs, if the stage takes any. Raises TuttiError on what it cannot read."""
        parts = [
            (number, part) for number, part in enumerate(request.parts) if _modality(part) in self.inputs
        ]
        now = time.monotonic()
        items = [
            OnceItem(
                request.id,
                self.model.take(part),
                number == parts[-1][0],
                now,
                number,
                part.digest if isinstance(part, MediaInput) else None,
            )
            for number, part in parts
        ]
        self._queue.extend(items)

    def feed(self, chunk: Chunk) -> None:
        """Queue what an edge brought."""
        self._queue.append(OnceItem(chunk.request, chunk.payload, chunk.final, time.monotonic(), chunk.part))

    def urgency(self) -> float | None:
        """See `stage.Runner`."""
        return min((self._due(item) for item in self._queue), default=None)

    @property
    def waiting(self) -> int:
        """See `stage.Runner`."""
        return len(self._queue)

    def _due(self, item: OnceItem) -> float:
        """When its listener runs dry, or somebody who waits for it grows impatient."""
        dry = self._players.deadline(item.request_id)
        if dry is None or self.inputs:
            return item.arrival + (_PATIENCE if self.inputs else FILE)
        return dry

    def plan(self) -> list[OnceItem]:
        """Everything that is known already; else the most urgent item and what may share its batch in the budget."""
        known = [item for item in self._queue if item.key in self.kept]
        if known or not self._queue:
            return known
        waiting = sorted(self._queue, key=self._due)  # stable: a request's items keep their order
        bucket = self.model.bucket(waiting[0].value)
        batch: list[OnceItem] = []
        cost = 0
        for item in waiting:
            if self.model.bucket(item.value) != bucket:
                continue
            cost += self.model.cost(item.value)
            if batch and cost > self.budget:
                break
            batch.append(item)
        return batch

    @torch.inference_mode()
    def step(self, batch: Sequence[OnceItem]) -> list[Chunk]:
        """See `stage.Runner`."""
        payloads = self._payloads(batch)
        done = set(batch)
        self._queue = deque(item for item in self._queue if item not in done)
        return [
            Chunk(item.request_id, self.name, payload, item.final, item.part)
            for item, payload in zip(batch, payloads, strict=True)
        ]

    def release(self, request_id: str) -> None:
        """See `stage.Runner`."""
        self._queue = deque(item for item in self._queue if item.request_id != request_id)

    def _payloads(self, batch: Sequence[OnceItem]) -> list[Any]:
        """A payload per item; equal items are computed once."""
        found = {item.key: self.kept.get(item.key) for item in batch if item.key in self.kept}
        fresh: dict[Any, OnceItem] = {}
        for item in batch:
            if item.key not in found:
                fresh.setdefault(item.key or item, item)
        results = self.model.run([item.value for item in fresh.values()]) if fresh else []
        computed = dict(zip(fresh, results, strict=True))
        self.items += len(computed)
        for name, payload in computed.items():
            if isinstance(name, str):
                self.kept.put(name, payload)
        return [found[item.key] if item.key in found else computed[item.key or item] for item in batch]


def _modality(part: Part) -> str | None:
    if isinstance(part, MediaInput):
        return part.modality
    return "text" if isinstance(part, Tokens) else None
