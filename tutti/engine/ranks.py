"""A stage of denoising whose network several processes compute together, as the one that leads them sees it.

    engine process: rank 0                        a process for each other rank (`engine.rank_worker`)
    ─────────────────────────                     ────────────────────────────────────────────────────
    engine/denoise   admits, plans        line    the same network, or its share of it
    engine/ranks     says who is next   ────────▶ the same states, the same steps
    models/drawing/parallel  ◀── torch.distributed: what a pass of the network needs ──▶

The engine's process decides; to the others it says what a request's state is made of, whose step is next, and who is
gone. Since all make the same states of that, and take the same steps, nothing comes back.

When a rank ends, or its computation fails, all others end, too, and are started again. Requests under way fail within
seconds, and those that come meanwhile are told to come back; a rank that dies before it was ever ready keeps the engine
from starting.
"""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from msgspec.structs import replace

from tutti.engine.keeper import GRACE, Beside, Keeper
from tutti.engine.parcels import Advance, Drop, Join, Message, Ready, Take
from tutti.engine.plan import MemoryPlan
from tutti.errors import Busy, ConfigError, EngineDied, StageFailed, TuttiError
from tutti.graph import Chunk
from tutti.models.drawing.parallel import Team
from tutti.models.protocols import DenoiseModel, Gathers
from tutti.request import Request
from tutti.settings import EngineOptions, stay_on_machine

log = logging.getLogger(__name__)

_VERDICT = 2.0  # seconds in which it is known whether a computation failed because another rank is gone
T = TypeVar("T")


class Ranks(Keeper):
    """The processes of all ranks but the first. A thread keeps them; other methods are the loop's, but for `close`."""

    def __init__(
        self,
        options: EngineOptions,
        plans: Sequence[MemoryPlan],
        *,
        stage: str,
        device: torch.device,
        threads: int,
    ) -> None:
        """`device` is the leader's; `plans` are those of the other ranks.

        Raises ConfigError where a model in this process is computed by several ranks already.
        """
        super().__init__(f"the ranks of stage {stage}")
        stay_on_machine()
        if dist.is_initialized():
            raise ConfigError(
                "several ranks compute another model of this process: there can be one such model in a process"
            )
        self.stage = stage
        self.generation = 0  # of processes that serve or served
        self.team = Team(options.degrees, 0, device)
        self.pids: list[int] = []
        self._joins = [
            Join(options, one.device.partition(" ")[0], threads, one, stage, rank, "")
            for rank, one in enumerate(plans, 1)
        ]
        self._first: Future[None] = Future()
        self._others: list[Beside] = []
        self._serving = False
        self._why = ""  # the last ones ended
        self._news: SimpleQueue[tuple[int, Ready | TuttiError | None]] = SimpleQueue()
        self._fallen = threading.Event()  # the processes of this generation have ended
        self._working = threading.Lock()  # held while the leader computes with the others
        self._thread.start()

    def ready(self) -> None:
        """Wait until all ranks have met. Raises the TuttiError that keeps one from starting."""
        self._first.result()

    def close(self) -> None:
        """End the processes."""
        self._closing.set()
        self._news.put((0, None))
        self._thread.join(3 * GRACE)

    @property
    def serving(self) -> bool:
        """Whether all ranks are there."""
        return self._serving

    # --- what is told -------------------------------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """Tell all others. Raises Busy while they start again, StageFailed if they cannot."""
        if self._given_up:
            raise StageFailed(f"{self.name} could not be started again", stage=self.stage)
        if not self._serving:
            raise Busy(f"stage {self.stage} is being started again; try again in a moment", retry_after=2.0)
        for one in self._others:
            one.line.send(message)

    def forget(self, ticket: int, generation: int) -> None:
        """Let the others forget a state, if they are still those that know it."""
        if generation == self.generation and self._serving:
            self.tell(Drop(ticket))

    def together(self, tickets: Sequence[Ticket], compute: Callable[[], T]) -> T:
        """`compute` here what the others compute meanwhile: the next step of the states of these `tickets`.

        Raises StageFailed when some of them are gone, and what `compute` raises by itself.
        """
        with self._working:
            if not self._serving or any(one.generation != self.generation for one in tickets):
                raise self._gone()
            self.tell(Advance(tuple(one.number for one in tickets)))
            try:
                found = compute()
                self.team.settle()
                return found
            except Exception as error:
                # The others are in the midst of it, whoever is at fault: they cannot go on from here.
                if not self._fallen.wait(_VERDICT):
                    self._serving = False
                    self._news.put((0, StageFailed(f"rank 0: {type(error).__name__}: {error}")))
                    raise
                raise self._gone() from error

    def _gone(self) -> StageFailed:
        return StageFailed(
            f"{self.name} ended ({self._why}) while they worked on this request; they are being started again",
            stage=self.stage,
        )

    # --- the keeper's thread ------------------------------------------------------------------------------------

    def _run(self) -> tuple[str, bool, TuttiError]:
        """See `Keeper._run`."""
        with TemporaryDirectory(prefix="tutti-ranks-") as folder:
            return self._live(f"{folder}/meeting")

    def _live(self, meeting: str) -> tuple[str, bool, TuttiError]:
        """The life of one generation of processes, which meet by the file `meeting`."""
        self._news, self._fallen = SimpleQueue(), threading.Event()
        if self._closing.is_set():
            return "closed", False, EngineDied("the engine was closed")
        met = False
        try:
            for join in self._joins:
                self._others.append(Beside("tutti.engine.rank_worker", replace(join, meeting=meeting)))
            self.pids = [one.process.pid for one in self._others]
            for rank, one in enumerate(self._others, 1):
                threading.Thread(target=self._listen, args=(rank, one, self._news), daemon=True).start()
            how, error = self._await(len(self._others))
            if not how:
                self.team.join(meeting)
                self.generation += 1
                met = self._serving = True
                if not self._first.done():
                    self._first.set_result(None)
                how, error = self._await(1 << 30)
        except Exception as failure:  # noqa: BLE001 - whoever waits for them must hear of it
            how = f"{type(failure).__name__}: {failure}"
            error = EngineDied(f"{self.name} could not meet ({how})")
        self._end(how)
        return how, met, error

    def _await(self, readies: int) -> tuple[str, TuttiError]:
        """Wait for news until so many are ready; how it ended if somebody did before, and why."""
        while readies:
            rank, news = self._news.get()
            if isinstance(news, Ready):
                readies -= 1
            elif self._closing.is_set():
                return "closed", EngineDied("the engine was closed")
            elif rank == 0:
                return str(news), news or EngineDied("rank 0 failed")
            else:
                how = self._others[rank - 1].ended()
                said = f"rank {rank}: {how if news is None else news.message}"
                return said, news or EngineDied(
                    f"{self.name} ended ({said}) before they were ready; see the log above"
                )
        return "", EngineDied("")

    def _end(self, how: str) -> None:
        """Make an end of all processes of this generation, and of what waits for them."""
        self._why, self._serving = how, False
        for one in self._others:
            one.line.close()
            if not self._closing.is_set():
                one.process.kill()  # it may be waiting for one that is gone
        self.team.abort()
        self._fallen.set()
        for one in self._others:
            one.ended()
        with self._working:  # nobody computes with them any more
            self.team.leave()
        self._others = []

    def _never(self, error: TuttiError) -> bool:
        """See `Keeper._never`."""
        if self._first.done():
            return False
        self._first.set_exception(error)
        return True

    def _lost(self, how: str) -> None:
        """See `Keeper._lost`: who needed them learns it with their next step."""

    def _listen(
        self, rank: int, one: Beside, news: SimpleQueue[tuple[int, Ready | TuttiError | None]]
    ) -> None:
        """Hand on what a rank says; it says no more than that it is ready, and why it ends."""

        def take(message: Message) -> None:
            if isinstance(message, Ready):
                news.put((rank, message))

        news.put((rank, one.listen(f"rank {rank}", take)))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Ticket:
    """A state that all ranks hold. When nobody here holds it any more, the others forget theirs."""

    number: int
    generation: int


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A request's state as the stage has it."""

    state: Any
    ticket: Ticket


class Led:
    """A model that all ranks compute: see `models.protocols.DenoiseModel`."""

    def __init__(self, model: DenoiseModel, ranks: Ranks) -> None:
        """`model` is this rank's, which has been told to compute with the others."""
        self._model = model
        self._ranks = ranks
        self._numbers = itertools.count()

    def gather(self, request: Request, brought: Sequence[Chunk]) -> Any | None:
        """See `models.protocols.Gathers`."""
        assert isinstance(self._model, Gathers)
        return self._model.gather(request, brought)

    def start(self, request: Request, condition: Any) -> Held:
        """See `DenoiseModel.start`. Raises Busy while the ranks are started again."""
        state = self._model.start(
            request, condition
        )  # what cannot be drawn is refused here, before others hear of it
        number, generation = next(self._numbers), self._ranks.generation
        drawing = tuple(part for part in request.parts if part is request.drawing)
        self._ranks.tell(Take(number, replace(request, parts=drawing), condition))
        ticket = Ticket(number, generation)
        weakref.finalize(ticket, self._ranks.forget, number, generation).atexit = False
        return Held(state, ticket)

    def step(self, states: list[Held]) -> list[Held]:
        """See `DenoiseModel.step`."""
        found = self._ranks.together(
            [one.ticket for one in states], lambda: self._model.step([one.state for one in states])
        )
        return [Held(state, one.ticket) for state, one in zip(found, states, strict=True)]

    def cost(self, state: Held) -> int:
        """See `DenoiseModel.cost`."""
        return self._model.cost(state.state)

    def key(self, state: Held) -> Hashable:
        """See `DenoiseModel.key`."""
        return self._model.key(state.state)

    def kept(self, state: Held) -> int:
        """See `DenoiseModel.kept`."""
        return self._model.kept(state.state)

    def skipped(self, state: Held) -> int:
        """See `DenoiseModel.skipped`."""
        return self._model.skipped(state.state)

    def fault(self, state: Held) -> str | None:
        """See `DenoiseModel.fault`."""
        return self._model.fault(state.state)

    def progress(self, state: Held) -> tuple[int, int]:
        """See `DenoiseModel.progress`."""
        return self._model.progress(state.state)

    def preview(self, state: Held) -> Any | None:
        """See `DenoiseModel.preview`."""
        return self._model.preview(state.state)

    def result(self, state: Held) -> Any:
        """See `DenoiseModel.result`."""
        return self._model.result(state.state)
