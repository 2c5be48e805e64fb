"""The stage of one pass: encoders, VAEs, vocoders.

Items (a request's parts of the stage's input modality, or chunks that an edge brought) wait in order of arrival and
are computed in batches within a budget of cost; each gives one chunk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tutti.graph import Chunk
from tutti.request import Request


class OnceModel(Protocol):
    """What a `once` stage's `build` returns."""

    def inputs(self, request: Request) -> list[Any]:
        """What the stage takes from the request itself, in order; empty for a stage that only edges feed."""
        ...

    def cost(self, item: Any) -> int:
        """The work an item is, in units of the stage's budget (frames, patches)."""
        ...

    def run(self, items: list[Any]) -> list[Any]:
        """One pass; a payload per item."""
        ...


@dataclass(frozen=True, slots=True)
class OnceItem:
    """One thing to compute for one request; `final`: the request brings no more of them."""

    request_id: str
    value: Any
    final: bool
    arrival: float


class Once:
    """Runs one `OnceModel` for many requests. See `stage.Runner`."""

    def __init__(self, name: str, model: OnceModel, *, budget: int) -> None:
        self.name = name
        self.model = model
        self.budget = budget
        self._queue: deque[OnceItem] = deque()

    def admit(self, request: Request) -> None:
        """Queue the request's own inputs, if the stage takes any. Raises TuttiError on what it cannot read."""
        values = self.model.inputs(request)
        now = time.monotonic()
        for number, value in enumerate(values, 1):
            self._queue.append(OnceItem(request.id, value, number == len(values), now))

    def feed(self, chunk: Chunk) -> None:
        """Queue what an edge brought."""
        self._queue.append(OnceItem(chunk.request, chunk.payload, chunk.final, time.monotonic()))

    def urgency(self) -> float | None:
        """See `stage.Runner`: the arrival of the oldest item, since everything behind it waits for it."""
        return self._queue[0].arrival if self._queue else None

    def plan(self) -> list[OnceItem]:
        """The oldest items that fit the budget; at least one."""
        batch: list[OnceItem] = []
        cost = 0
        for item in self._queue:
            cost += self.model.cost(item.value)
            if batch and cost > self.budget:
                break
            batch.append(item)
        return batch

    @torch.inference_mode()
    def step(self, batch: Sequence[OnceItem]) -> list[Chunk]:
        """See `stage.Runner`."""
        payloads = self.model.run([item.value for item in batch])
        done = {id(item) for item in batch}
        self._queue = deque(item for item in self._queue if id(item) not in done)
        return [
            Chunk(item.request_id, self.name, payload, item.final)
            for item, payload in zip(batch, payloads, strict=True)
        ]

    def release(self, request_id: str) -> None:
        """See `stage.Runner`."""
        self._queue = deque(item for item in self._queue if item.request_id != request_id)
