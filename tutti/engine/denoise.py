"""The stage of denoising: one sampler step a step, for requests that may be at different times.

Requests join and leave between steps. Which may share a batch (same shape, say) the model tells by a key; the batch
with the request that waited longest for its next step goes first, so that a late small one is not stuck behind a long
one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tutti.engine.stage import nobody
from tutti.errors import Busy
from tutti.graph import Chunk
from tutti.models.protocols import DenoiseModel
from tutti.request import Request

_PATIENCE = 0.5  # seconds that a picture may rest between two steps


@dataclass(slots=True, eq=False)
class DenoiseItem:
    """A request between two steps; `due` is when it last advanced."""

    request: Request
    state: Any
    due: float = field(default_factory=time.monotonic)

    @property
    def request_id(self) -> str:
        """Whose it is."""
        return self.request.id


class Denoise:
    """Runs one `DenoiseModel` for many requests. See `stage.Runner`."""

    def __init__(
        self, name: str, model: DenoiseModel, *, max_batch: int, fed: bool, max_requests: int = 256
    ) -> None:
        """`fed`: a request starts when an edge brings its condition, not at once."""
        self.name = name
        self.model = model
        self.max_batch = max_batch
        self.max_requests = max_requests
        self.fed = fed
        self._expected: dict[str, Request] = {}
        self._active: dict[str, DenoiseItem] = {}

    def admit(self, request: Request) -> None:
        """Take a request. Raises Busy when there are too many."""
        if len(self._active) + len(self._expected) >= self.max_requests:
            raise Busy(f"stage {self.name} has {self.max_requests} requests; try again in a moment")
        if self.fed:
            self._expected[request.id] = request
        else:
            self._active[request.id] = DenoiseItem(request, self.model.start(request, None))

    def feed(self, chunk: Chunk) -> None:
        """The condition of an admitted request; what comes for one that is gone is dropped."""
        request = self._expected.pop(chunk.request, None)
        if request is not None:
            self._active[request.id] = DenoiseItem(request, self.model.start(request, chunk.payload))

    def urgency(self) -> float | None:
        """See `stage.Runner`. A picture has time: what is heard or read goes first."""
        oldest = min((item.due for item in self._active.values()), default=None)
        return None if oldest is None else oldest + _PATIENCE

    @property
    def waiting(self) -> int:
        """See `stage.Runner`."""
        return len(self._active)

    def full(self, request_id: str) -> bool:
        """See `stage.Runner`: a condition comes once."""
        return False

    def plan(self, rests: Callable[[str], bool] = nobody) -> list[DenoiseItem]:
        """The request that waited longest, and those that may share its step, longest waiting first."""
        awake = [item for item in self._active.values() if not rests(item.request_id)]
        waiting = sorted(awake, key=lambda item: (item.request.priority, item.due))
        if not waiting:
            return []
        key = self.model.key(waiting[0].state)
        return [item for item in waiting if self.model.key(item.state) == key][: self.max_batch]

    @torch.inference_mode()
    def step(self, batch: Sequence[DenoiseItem]) -> list[Chunk]:
        """See `stage.Runner`."""
        states = self.model.step([item.state for item in batch])
        chunks: list[Chunk] = []
        now = time.monotonic()
        for item, state in zip(batch, states, strict=True):
            item.state, item.due = state, now
            if self.model.done(state):
                self.release(item.request_id)
                chunks.append(Chunk(item.request_id, self.name, self.model.result(state), final=True))
        return chunks

    def release(self, request_id: str) -> None:
        """See `stage.Runner`."""
        self._expected.pop(request_id, None)
        self._active.pop(request_id, None)
