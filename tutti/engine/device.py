"""A device beside the main one: a process with a loop of its own that runs some of the graph's stages.

The process is started with the engine and again when it dies. Requests that need its stages then fail, named after the
stage, or are told to come back while it starts; the others go on. A process that dies before it was ever ready is not
started again: its error is the engine's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from tutti.engine.credits import Room
from tutti.engine.keeper import GRACE, Beside, Keeper
from tutti.engine.line import Line
from tutti.engine.neighbour import Neighbour
from tutti.engine.parcels import Admit, Begin, Emitted, Heard, Message, Ready, Release, Report, ResetCaches
from tutti.engine.stage import Arrival, Failure
from tutti.engine.tracing import Passed
from tutti.engine.wire import StageStats
from tutti.errors import Busy, EngineDied, StageFailed, TuttiError
from tutti.events import Failed
from tutti.graph import Chunk, Stage
from tutti.request import MediaInput, Request


class Device(Keeper):
    """The main loop's view of it. A thread keeps the process and hands in what it says as `Arrival`s.

    All methods but `ready` and `close` belong to the loop's thread.
    """

    def __init__(self, begin: Begin, stages: Sequence[Stage], post: Callable[[Arrival], None]) -> None:
        """`stages` are those that `begin` names; `post` takes what arrives, in any thread."""
        super().__init__(f"the process of device {begin.device}")
        self.device = begin.device
        self.stages = begin.stages
        self.watch: Callable[[Passed], None] = lambda step: None  # is told of the steps there
        self.pid: int | None = None
        self._begin = begin
        self._inputs = {modality for stage in stages for modality in stage.inputs}
        self._post = post
        self._neighbour: Neighbour | None = None
        self.requests: dict[str, list[str]] = {}  # under way there, with the stages that have more to give
        self.memory_peak = 0  # bytes, of its process
        self._stats = {stage.name: StageStats(stage.name, str(stage.kind)) for stage in stages}
        self._past = dict(self._stats)  # of processes before this one
        self._first: Future[tuple[Line, Ready]] = Future()
        self._line: Line | None = None
        self._thread.start()

    def ready(self) -> Ready:
        """Wait until it serves for the first time. Raises the TuttiError that keeps it from starting."""
        line, ready = self._first.result()
        self._neighbour = Neighbour(line)
        return ready

    @property
    def serving(self) -> bool:
        """Whether the process is there and ready."""
        return self._neighbour is not None

    def close(self) -> None:
        """End the process."""
        self._closing.set()
        if self._line is not None:
            self._line.close()
        self._thread.join(2 * GRACE)

    # --- requests -----------------------------------------------------------------------------------------------

    def admit(self, request: Request, stage: str) -> None:
        """Take a request that needs `stage`. Raises Busy while the process starts again, StageFailed if it cannot."""
        if self._given_up:
            raise StageFailed(f"the process of stage {stage} could not be started again", stage=stage)
        if self._neighbour is None:
            raise Busy(f"stage {stage} is being started again; try again in a moment", retry_after=2.0)
        if request.id not in self.requests:
            self._neighbour.line.send(Admit(self._lighter(request)))
        self.requests.setdefault(request.id, []).append(stage)

    def send(self, chunk: Chunk) -> None:
        """Send what a stage elsewhere emitted to the stages here that follow it."""
        if self._neighbour is not None and chunk.request in self.requests:
            self._neighbour.send(chunk)

    def full(self, request_id: str) -> bool:
        """Whether it has enough to do for a request."""
        return self._neighbour is not None and self._neighbour.full(request_id)

    def release(self, request_id: str) -> None:
        """Forget a request."""
        if self.requests.pop(request_id, None) is not None and self._neighbour is not None:
            self._neighbour.forget(request_id)
            self._neighbour.line.send(Release(request_id))

    def heard(self, request_id: str, dry: float) -> None:
        """The request's listener got more sound, and runs dry at `dry`, in monotonic seconds."""
        if self._neighbour is not None and request_id in self.requests:
            self._neighbour.line.send(Heard(request_id, dry))

    def reset_caches(self) -> None:
        """Forget every prefix, and what encoders made of media."""
        if self._neighbour is not None:
            self._neighbour.line.send(ResetCaches())

    def settle(self, full: Callable[[str, str], bool]) -> None:
        """See `Neighbour.settle`."""
        if self._neighbour is not None:
            self._neighbour.settle(full)

    def stats(self, stage: str) -> StageStats:
        """What a stage did, as far as it is known here."""
        return _sum(self._past[stage], self._stats[stage])

    def _lighter(self, request: Request) -> Request:
        """`request` without the arrays of media that no stage here takes."""
        parts = tuple(
            msgspec.structs.replace(part, arrays={})
            if isinstance(part, MediaInput) and part.modality not in self._inputs
            else part
            for part in request.parts
        )
        return msgspec.structs.replace(request, parts=parts)

    # --- what arrives -------------------------------------------------------------------------------------------

    def _take(self, line: Line, message: Message) -> list[Chunk]:
        """What the process said over `line`."""
        if isinstance(message, Ready):
            self._neighbour = Neighbour(line)
        elif self._neighbour is not None and self._neighbour.line is line:
            match message:
                case Emitted(request=request) if request in self.requests:
                    if message.final and message.stage in self.requests[request]:
                        self.requests[request].remove(message.stage)
                    return [self._neighbour.take(message)]
                case Failed(request, error) if request in self.requests:
                    self._neighbour.forget(request)
                    del self.requests[request]
                    return [Chunk(request, error.stage or self.stages[0], Failure(error.error()), final=True)]
                case Room():
                    self._neighbour.hear(message)
                case Passed():
                    self.watch(message)
                case Report(stages, peak):
                    self._stats |= {one.name: one for one in stages}
                    self.memory_peak = peak
        return []

    def _lose(self, how: str) -> list[Chunk]:
        """The process is gone: what was under way there fails."""
        self._neighbour = None
        for name, stats in self._stats.items():
            self._past[name] = msgspec.structs.replace(_sum(self._past[name], stats), waiting=0, kv_usage=0.0)
            self._stats[name] = StageStats(name, stats.kind)
        lost, self.requests = self.requests, {}
        return [
            Chunk(request, stages[0], Failure(_gone(stages, how)), final=True)
            for request, stages in lost.items()
            if stages  # else it has all that it needed
        ]

    # --- the keeper's thread ------------------------------------------------------------------------------------

    def _run(self) -> tuple[str, bool, TuttiError]:
        """See `Keeper._run`."""
        try:
            beside = Beside("tutti.engine.device_worker", self._begin)
        except OSError as error:
            return str(error), False, EngineDied(f"no process could be started for {self.device}: {error}")
        self._line, self.pid = beside.line, beside.process.pid
        if self._closing.is_set():
            beside.line.close()
        readies: list[Ready] = []

        def take(message: Message) -> None:
            if isinstance(message, Ready):
                readies.append(message)
            if isinstance(message, Ready) and not self._first.done():
                self._first.set_result((beside.line, message))
            else:
                self._post(Arrival(functools.partial(self._take, beside.line, message)))

        fatal = beside.listen(self.name, take)
        how = beside.ended()
        died = f"the process of stage {self.stages[0]} ended ({how}) before it was ready; see its log above"
        return how, bool(readies), fatal or EngineDied(died)

    def _never(self, error: TuttiError) -> bool:
        """See `Keeper._never`."""
        if self._first.done():
            return False
        self._first.set_exception(error)
        return True

    def _lost(self, how: str) -> None:
        """See `Keeper._lost`."""
        self._post(Arrival(functools.partial(self._lose, how)))


class Away:
    """A stage on another device: a `stage.Runner` that never has work in this loop."""

    def __init__(self, name: str, device: Device) -> None:
        self.name = name
        self._device = device

    def admit(self, request: Request) -> None:
        """See `stage.Runner`; what the stage refuses arrives later, as a failure."""
        self._device.admit(request, self.name)

    def feed(self, chunk: Chunk) -> None:
        """See `stage.Runner`."""
        self._device.send(chunk)

    def full(self, request_id: str) -> bool:
        """See `stage.Runner`."""
        return self._device.full(request_id)

    def urgency(self) -> None:
        """See `stage.Runner`."""

    def plan(self, rests: Callable[[str], bool]) -> list[Any]:
        """See `stage.Runner`."""
        return []

    def step(self, batch: Any) -> list[Chunk]:
        """See `stage.Runner`."""
        return []

    @property
    def waiting(self) -> int:
        """See `stage.Runner`."""
        return self._device.stats(self.name).waiting

    def release(self, request_id: str) -> None:
        """See `stage.Runner`."""
        self._device.release(request_id)


def _gone(stages: list[str], how: str) -> StageFailed:
    """Why a request fails that needed more of `stages`."""
    return StageFailed(
        f"the process of stage {' and '.join(stages)} ended ({how}) while it worked on this request; it is being "
        "started again",
        stage=stages[0],
    )


def _sum(past: StageStats, now: StageStats) -> StageStats:
    """`now`, with what was counted in the `past`."""
    return msgspec.structs.replace(
        now,
        steps=past.steps + now.steps,
        items=past.items + now.items,
        step_time=past.step_time + now.step_time,
        media_items=past.media_items + now.media_items,
        media_hits=past.media_hits + now.media_hits,
        skipped=past.skipped + now.skipped,
    )
