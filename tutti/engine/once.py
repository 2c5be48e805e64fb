"""The stage of one pass: encoders, VAEs, vocoders.

Items (the request's parts of the stage's modalities, or chunks that an edge brought) wait in order of arrival. What is
long comes in pieces (`Splits`). A step computes the most urgent item's next pieces, and others' that may share its
batch, within a budget of cost, so that no step is long and no memory large; an item gives one chunk when it is whole.
What has a name (the digest of a picture, the words of a prompt) is computed once for all who wait for it, and kept, so
that the same picture in a second turn, or the same prompt with another seed, costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tutti.engine.kept import Kept
from tutti.engine.later import Later
from tutti.engine.players import FILE, Players
from tutti.engine.stage import nobody
from tutti.errors import InvalidRequest
from tutti.graph import Chunk
from tutti.models.protocols import OnceModel, Pools, Splits, Vector
from tutti.request import MediaInput, Part, PoolingParams, Request, Text, Tokens

_ENOUGH = 4  # items of one request that wait: who makes them rests
_PATIENCE = 0.1  # seconds after which somebody waits for an item, as for a first token


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """A request that waits for an item; `final`: it brings no more of them."""

    request_id: str
    final: bool
    arrival: float
    part: int | None = None  # of the request, if the item is one
    pooling: PoolingParams | None = None  # how the item's vector is finished, where the model makes vectors


@dataclass(slots=True, eq=False)
class Work:
    """One item to compute: its pieces, and the payloads of those that are done. `key` names the result."""

    pieces: Sequence[Any]
    waiters: list[Waiter] = field(default_factory=list)
    key: str | None = None
    payloads: dict[int, Any] = field(default_factory=dict)
    result: Any = None  # once it is whole
    begun: float = 0.0  # when its first step began
    served: float = 0.0  # when the last piece was done

    @property
    def pieces_left(self) -> list[int]:
        """Numbers of the pieces that are still to be computed."""
        return [number for number in range(len(self.pieces)) if number not in self.payloads]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One piece of a work, in a batch. `number` None: nothing is to be computed, the result is known."""

    work: Work
    number: int | None

    @property
    def request_id(self) -> str:
        """See `stage.Item`: who waits for it longest."""
        return self.work.waiters[0].request_id


class Once:
    """Runs one `OnceModel` for many requests. See `stage.Runner`."""

    def __init__(
        self,
        name: str,
        model: OnceModel | Later,
        *,
        budget: int,
        inputs: Sequence[str] = (),
        output: str | None = None,
        keep_bytes: int = 0,
        players: Players | None = None,
    ) -> None:
        """`inputs` are the modalities of the parts it takes; results of up to `keep_bytes` in all are kept.

        `output` is the modality of results that go to a client.
        """
        self.name = name
        self._model = model
        self.budget = budget
        self.inputs = frozenset(inputs)
        self._seen = output in ("image", "video")
        self.kept = Kept(keep_bytes)
        self.items = 0
        self.prompt_tokens = 0  # of the prompts that vectors were made of
        self._players = players or Players()
        self._queue: list[Work] = []

    @property
    def model(self) -> OnceModel:
        """The model; a late one was built with that of the stage that feeds it."""
        model: OnceModel = self._model.model(self.name) if isinstance(self._model, Later) else self._model
        return model

    def admit(self, request: Request) -> None:
        """Queue the request's own inputs, if the stage takes any. Raises TuttiError on what it cannot read."""
        parts = [
            (number, part) for number, part in enumerate(request.parts) if _modality(part) in self.inputs
        ]
        if parts:
            self._check(request.pooling)
        now = time.monotonic()
        for number, part in parts:
            last = number == parts[-1][0]
            self._find(part).waiters.append(Waiter(request.id, last, now, number, request.pooling))

    def feed(self, chunk: Chunk) -> None:
        """Queue what an edge brought."""
        waiter = Waiter(chunk.request, chunk.final, time.monotonic(), chunk.part)
        self._queue.append(Work(self._pieces(chunk.payload), [waiter]))

    def urgency(self) -> float | None:
        """See `stage.Runner`."""
        return min(map(self._due, self._queue), default=None)

    @property
    def waiting(self) -> int:
        """See `stage.Runner`."""
        return sum(len(work.waiters) for work in self._queue)

    def full(self, request_id: str) -> bool:
        """See `stage.Runner`."""
        waiters = [waiter for work in self._queue for waiter in work.waiters]
        return sum(waiter.request_id == request_id for waiter in waiters) >= _ENOUGH

    def plan(self, rests: Callable[[str], bool] = nobody) -> list[Piece]:
        """Everything that is known already; else the most urgent pieces that may share a batch in the budget."""
        awake = [work for work in self._queue if not all(rests(waiter.request_id) for waiter in work.waiters)]
        known = [Piece(work, None) for work in awake if work.result is not None]
        if known or not awake:
            return known
        waiting = sorted(awake, key=self._due)  # stable: a request's items keep their order
        bucket = self.model.bucket(waiting[0].pieces[0])
        batch: list[Piece] = []
        cost = 0
        for work in waiting:
            if self.model.bucket(work.pieces[0]) != bucket:
                continue
            for number in work.pieces_left:
                cost += self.model.cost(work.pieces[number])
                if batch and cost > self.budget:
                    return batch
                batch.append(Piece(work, number))
        return batch

    @torch.inference_mode()
    def step(self, batch: Sequence[Piece]) -> list[Chunk]:
        """See `stage.Runner`."""
        fresh = [(piece.work, piece.number) for piece in batch if piece.number is not None]
        now = time.monotonic()
        payloads = self.model.run([work.pieces[number] for work, number in fresh]) if fresh else []
        for (work, number), payload in zip(fresh, payloads, strict=True):
            work.payloads[number] = payload
            work.begun = work.begun or now
            self._progress(work)
        done = {id(piece.work): piece.work for piece in batch if piece.work.result is not None}
        self._queue = [work for work in self._queue if id(work) not in done]
        return [
            Chunk(waiter.request_id, self.name, self._payload(work, waiter), waiter.final, waiter.part)
            for work in done.values()
            for waiter in work.waiters
        ]

    def _payload(self, work: Work, waiter: Waiter) -> Any:
        """What a waiter gets of a work that is done."""
        if waiter.pooling is None or not isinstance(self.model, Pools):
            return work.result
        tokens = sum(map(self.model.cost, work.pieces))
        self.prompt_tokens += tokens
        times = (work.begun - waiter.arrival, work.served - work.begun)
        return Vector(self.model.finish(work.result, waiter.pooling), tokens, *times)

    def release(self, request_id: str) -> None:
        """See `stage.Runner`."""
        for work in self._queue:
            work.waiters = [waiter for waiter in work.waiters if waiter.request_id != request_id]
        self._queue = [work for work in self._queue if work.waiters]

    def _check(self, wishes: PoolingParams) -> None:
        """Raises InvalidRequest when the model's vectors cannot be finished so."""
        if isinstance(self.model, Pools) and (wishes.dimensions or 0) > self.model.width:
            raise InvalidRequest(
                f"dimensions is {wishes.dimensions}, but the model's vectors have {self.model.width} numbers",
                param="dimensions",
            )

    # --- works --------------------------------------------------------------------------------------------------

    def _find(self, part: Part) -> Work:
        """The work, in the queue, of a part: one of an equal part that is under way, or a new one."""
        key = _name(part)
        for work in self._queue:
            if key is not None and work.key == key:
                return work
        if key in self.kept:
            work = Work((), key=key, result=self.kept.get(key))
        else:
            work = Work(self._pieces(self.model.take(part)), key=key)
        self._queue.append(work)
        return work

    def _pieces(self, item: Any) -> Sequence[Any]:
        return self.model.split(item) if isinstance(self.model, Splits) else (item,)

    def _progress(self, work: Work) -> None:
        """A piece was done; with the last one, the result is there."""
        work.served = time.monotonic()
        if len(work.payloads) < len(work.pieces):
            return
        payloads = [work.payloads[number] for number in range(len(work.pieces))]
        work.result = self.model.join(payloads) if isinstance(self.model, Splits) else payloads[0]
        self.items += 1
        if work.key is not None:
            self.kept.put(work.key, work.result)

    def _due(self, work: Work) -> float:
        return min(self._wanted(work, waiter) for waiter in work.waiters)

    def _wanted(self, work: Work, waiter: Waiter) -> float:
        """When its listener runs dry, or somebody who waits for it grows impatient. A file of sound has time."""
        dry = self._players.deadline(waiter.request_id)
        if dry is None or self.inputs:
            awaited = self.inputs or self._seen
            return max(waiter.arrival, work.served) + (_PATIENCE if awaited else FILE)
        return dry


def _modality(part: Part) -> str | None:
    if isinstance(part, MediaInput):
        return part.modality
    return "text" if isinstance(part, Text | Tokens) else None


def _name(part: Part) -> str | None:
    """What names all that is made of a part; None for one whose result is not kept."""
    if isinstance(part, MediaInput):
        return part.digest
    if not isinstance(part, Text):
        return None
    return " ".join((f"text {len(part.pictures)}", *(one.digest for one in part.pictures), part.text))
