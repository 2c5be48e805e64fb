"""The stage of denoising: one sampler step a step, for requests that may be at different times.

Requests join and leave between steps, whatever their step counts, guidance and seeds. Which may share a batch the model
tells by a key (the same shape, or one key for all where it packs pictures of different sizes). A batch is filled within
a budget of tokens, beginning with the request that has least left to do: nothing makes the mean wait shorter (Schrage
1968), and a late small picture waits for one step of a large one, not for the whole of it. A quarter of the work goes
to whoever had least of the machine so far (fair queueing: Demers, Keshav and Shenker 1989), so nobody waits for ever.

The oldest requests take turns, and with them the one that has least left to do; more at once would only be slower for
all. The others keep their place in the queue. (Of a model that works on one request until it is done, `OneByOne`, the
oldest is alone.) What states keep besides (feature caches) shares a pool of bytes, and a request begins when there is
room in it for all that it will keep.

Behind a stage that writes, most requests may end without a picture. Only those that are to be drawn count there, and
when they are too many, or the model is still being built (`later`), they wait as their conditions.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutti.engine.later import Later
from tutti.engine.stage import Failure, nobody
from tutti.errors import Busy, InvalidRequest, StageFailed
from tutti.events import Progress
from tutti.graph import Chunk
from tutti.models.protocols import DenoiseModel, Gathers, OneByOne
from tutti.request import Request
from tutti.settings import format_size

_PATIENCE = 0.5  # seconds that the stage may rest between two steps
_SHORT = 3  # tokens computed first for who has least left, for each that is for who had least


@dataclass(slots=True, eq=False)
class DenoiseItem:
    """A request between two steps.

    `served` is what it has had of the machine, in tokens computed, counted from what the others had had when it came.
    """

    request: Request
    state: Any
    number: int  # in order of arrival
    cost: int  # of a step
    served: int
    kept: int = 0  # bytes of the pool, from its first step on
    begun: bool = False

    @property
    def request_id(self) -> str:
        """Whose it is."""
        return self.request.id

    @property
    def place(self) -> tuple[int, int]:
        """Its place in the queue."""
        return self.request.priority, self.number


@dataclass(frozen=True, slots=True, eq=False)
class Newcomer:
    """A request whose condition has come, and that has no state yet."""

    request: Request
    condition: Any

    @property
    def request_id(self) -> str:
        """Whose it is."""
        return self.request.id


class Denoise:
    """Runs one `DenoiseModel` for many requests. See `stage.Runner`."""

    def __init__(
        self,
        name: str,
        model: DenoiseModel | Later,
        *,
        budget: int,
        fed: bool,
        largest: int | None = None,
        turns: int = 16,
        max_requests: int = 256,
        pool: int | None = None,
        patient: bool = False,
    ) -> None:
        """A batch has at most `budget` tokens, unless one request alone has more; none may have more than `largest`.

        `turns` is how many of the oldest requests take turns; `max_requests` how many there may be. `fed`: a request
        starts when an edge brings its condition, not at once. `pool`: the bytes that states may keep; None: any.
        `patient`: a request counts from its condition on, and waits where there are too many.
        """
        self.name = name
        self._model = model
        self.budget = budget
        self.largest = largest
        self.alone = isinstance(model, OneByOne)  # whether one request is worked on until it is done
        self.turns = 1 if self.alone else turns
        self.max_requests = max_requests
        self.fed = fed
        self.pool = pool
        self.patient = patient
        self.skipped = 0  # steps that were spared most of their work
        self._expected: dict[str, tuple[Request, list[Chunk]]] = {}  # and what edges brought so far
        self._newcomers: dict[str, Newcomer] = {}
        self._active: dict[str, DenoiseItem] = {}
        self._numbers = itertools.count()
        self._owed = 0  # tokens computed for who had least left, that others have not had their part of
        self._stepped = time.monotonic()  # when it did so last
        self._fair = False  # whether the batch that was planned begins with who had least

    @property
    def model(self) -> DenoiseModel:
        """The model. Raises what kept it from being built, if it is a late one."""
        model: DenoiseModel = self._model.model(self.name) if isinstance(self._model, Later) else self._model
        return model

    def admit(self, request: Request) -> None:
        """Take a request. Raises Busy when there are too many."""
        if not self.patient and len(self._active) + len(self._expected) >= self.max_requests:
            raise Busy(f"stage {self.name} has {self.max_requests} requests; try again in a moment")
        if self.fed:
            self._expected[request.id] = (request, [])
        else:
            self._start(request, None)

    def feed(self, chunk: Chunk) -> None:
        """The condition of an admitted request, or a piece of it; what comes for one that is gone is dropped.

        Raises InvalidRequest on one that can never be drawn here.
        """
        if chunk.request not in self._expected:
            return
        request, brought = self._expected[chunk.request]
        brought.append(chunk)
        condition = chunk.payload
        if isinstance(self._model, Later):
            self._model.begin()
        elif isinstance(self.model, Gathers):
            condition = self.model.gather(request, brought)
            if condition is None:
                return
        del self._expected[chunk.request]
        if self._has_place and not isinstance(self._model, Later):
            self._start(request, condition)
        else:
            self._newcomers[request.id] = Newcomer(request, condition)

    def urgency(self) -> float | None:
        """See `stage.Runner`. A picture has time: what is heard or read goes first, and what is nearly done."""
        if self._newcomers and self._has_place:
            return time.monotonic()
        return self._stepped + _PATIENCE if self._active else None

    def __contains__(self, request_id: str) -> bool:
        """Whether a request is here."""
        return any(request_id in them for them in (self._active, self._newcomers, self._expected))

    @property
    def turning(self) -> list[str]:
        """The ids of the requests that take turns."""
        return list(self._active)[: self.turns]

    @property
    def running(self) -> int:
        """How many they are."""
        return len(self.turning)

    @property
    def waiting(self) -> int:
        """See `stage.Runner`: requests that do not take turns yet."""
        return len(self._active) + len(self._newcomers) - self.running

    def full(self, request_id: str) -> bool:
        """See `stage.Runner`: a condition comes once."""
        return False

    def plan(self, rests: Callable[[str], bool] = nobody) -> list[DenoiseItem] | list[Newcomer]:
        """The request whose turn it is, and those that may share its step within the budget, in the same order.

        Who waits for a place that is free now comes first, alone.
        """
        if self._newcomers and self._has_place:
            return [next(iter(self._newcomers.values()))]
        awake = sorted(
            (item for item in self._active.values() if not rests(item.request_id)),
            key=lambda item: item.place,
        )
        awake = self._with_room(awake)
        if self.alone:
            return [min(awake, key=lambda item: not item.begun)] if awake else []
        turning = awake[: self.turns]
        if len(awake) > self.turns:
            turning.append(min(awake[self.turns :], key=self._left))
        batch: list[DenoiseItem] = []
        cost = 0
        self._fair = self._owed > 0
        for item in sorted(turning, key=self._had if self._fair else self._left):
            if batch and self.model.key(item.state) != self.model.key(batch[0].state):
                continue
            if batch and cost + item.cost > self.budget:
                continue
            batch.append(item)
            cost += item.cost
        return batch

    @torch.inference_mode()
    def step(self, batch: Sequence[DenoiseItem | Newcomer]) -> list[Chunk]:
        """See `stage.Runner`. Besides results: how far each request is, and the previews it asked for."""
        if isinstance(batch[0], Newcomer):
            self._start(batch[0].request, batch[0].condition)
            del self._newcomers[batch[0].request_id]
            return []
        return self._advance([item for item in batch if isinstance(item, DenoiseItem)])

    def _advance(self, batch: Sequence[DenoiseItem]) -> list[Chunk]:
        states = self.model.step([item.state for item in batch])
        self._stepped = time.monotonic()
        if self.running > len(batch):
            cost = sum(item.cost for item in batch)
            self._owed += -_SHORT * cost if self._fair else cost
        chunks: list[Chunk] = []
        for item, state in zip(batch, states, strict=True):
            self.skipped += self.model.skipped(state) - self.model.skipped(item.state)
            item.state, item.begun = state, True
            item.served += item.cost
            chunks += self._emitted(item)
        return chunks

    def release(self, request_id: str) -> None:
        """See `stage.Runner`."""
        for them in (self._expected, self._newcomers):
            them.pop(request_id, None)
        item = self._active.pop(request_id, None)
        if item is not None and isinstance(self._model, OneByOne):
            self._model.close(item.state)

    # --- requests -----------------------------------------------------------------------------------------------

    @property
    def _has_place(self) -> bool:
        built = not isinstance(self._model, Later) or self._model.settled
        return built and len(self._active) < self.max_requests

    def _start(self, request: Request, condition: Any) -> None:
        """Give a request its state. Raises InvalidRequest when a step of it can never fit in the memory."""
        state = self.model.start(request, condition)
        cost = self.model.cost(state)
        if self.largest is not None and cost > self.largest:
            raise InvalidRequest(
                f"a step of this has {cost:,} tokens, and there is memory for {self.largest:,}: "
                "ask for something smaller (of a film: or shorter), or serve the model with more --memory",
                param="size",
            )
        kept = self.model.kept(state)
        if self.pool is not None and kept > self.pool:
            raise InvalidRequest(
                f"the feature cache of this picture takes {format_size(kept)}, and there is memory for "
                f"{format_size(self.pool)}: ask for a smaller one or for none, or serve the model with more --memory",
                param="cache",
            )
        if not self._active:
            self._stepped = time.monotonic()
        served = min((item.served for item in self._active.values()), default=0)
        self._active[request.id] = DenoiseItem(request, state, next(self._numbers), cost, served, kept)

    def _with_room(self, items: list[DenoiseItem]) -> list[DenoiseItem]:
        """Of `items` in the queue's order, those that have begun, and those that what they keep has room for.

        Who waits for room is not overtaken by who needs less of it.
        """
        if self.pool is None:
            return items
        free = self.pool - sum(item.kept for item in self._active.values() if item.begun)
        found = []
        for item in items:
            if not item.begun and item.kept:
                free -= item.kept
                if free < 0:
                    continue
            found.append(item)
        return found

    def _left(self, item: DenoiseItem) -> tuple[int, int, int]:
        """How much there is still to do for a request, in the order in which they are served."""
        done, total = self.model.progress(item.state)
        return item.request.priority, item.cost * (total - done), item.number

    def _had(self, item: DenoiseItem) -> tuple[int, int, int]:
        """How much a request had so far, likewise."""
        return item.request.priority, item.served, item.number

    def _emitted(self, item: DenoiseItem) -> list[Chunk]:
        """What a request emits after a step."""
        request_id = item.request_id
        fault = self.model.fault(item.state)
        if fault is not None:
            self.release(request_id)
            error = StageFailed(f"stage {self.name}: {fault}", stage=self.name)
            return [Chunk(request_id, self.name, Failure(error), final=True)]
        done, total = self.model.progress(item.state)
        chunks = [Chunk(request_id, self.name, Progress(request_id, self.name, done, total))]
        if done == total:
            self.release(request_id)
            chunks.append(Chunk(request_id, self.name, self.model.result(item.state), final=True))
        elif (preview := self.model.preview(item.state)) is not None:
            chunks.append(Chunk(request_id, self.name, preview))
        return chunks
