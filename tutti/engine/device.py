"""A device beside the main one: a process with a loop of its own that runs some of the graph's stages.

The process is started with the engine and again when it dies. Requests that need its stages then fail, named after the
stage, or are told to come back while it starts; the others go on. A process that dies before it was ever ready is not
started again: its error is the engine's.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from tutti.engine.credits import Room
from tutti.engine.line import Line
from tutti.engine.neighbour import Neighbour
from tutti.engine.parcels import Admit, Begin, Emitted, Heard, Message, Ready, Release, Report, ResetCaches
from tutti.engine.stage import Arrival, Failure
from tutti.engine.tracing import Passed
from tutti.engine.wire import Fatal, StageStats
from tutti.errors import Busy, EngineDied, StageFailed, TuttiError
from tutti.events import Failed
from tutti.graph import Chunk, Stage
from tutti.request import MediaInput, Request

log = logging.getLogger(__name__)

_MAX_RESTARTS = 5  # in a row, without becoming ready in between
_GRACE = 5.0  # seconds that the process has to end by itself


class Device:
    """The main loop's view of it. A thread keeps the process and hands in what it says as `Arrival`s.

    All methods but `ready` and `close` belong to the loop's thread.
    """

    def __init__(self, begin: Begin, stages: Sequence[Stage], post: Callable[[Arrival], None]) -> None:
        """`stages` are those that `begin` names; `post` takes what arrives, in any thread."""
        self.name = begin.device
        self.stages = begin.stages
        self.restarts = 0
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
        self._closing = threading.Event()
        self._given_up = False
        self._keeper = threading.Thread(target=self._keep, name=f"device-{self.name}", daemon=True)
        self._keeper.start()

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
        self._keeper.join(2 * _GRACE)

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
            Chunk(request, stages[0], Failure(_lost(stages, how)), final=True)
            for request, stages in lost.items()
            if stages  # else it has all that it needed
        ]

    # --- the keeper's thread ------------------------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0  # starts in a row that came to nothing
        while failures <= _MAX_RESTARTS:
            how, was_ready, error = self._run()
            if self._closing.is_set():
                return
            if not self._first.done():
                self._first.set_exception(error)
                return
            self._post(Arrival(functools.partial(self._lose, how)))
            failures = 0 if was_ready else failures + 1
            log.error("the process of device %s ended (%s); starting it again", self.name, how)
            self.restarts += 1
            self._closing.wait(min(0.1 * 2**failures, 5.0))
        log.error("device %s failed to start %d times in a row; it is not started again", self.name, failures)
        self._given_up = True

    def _run(self) -> tuple[str, bool, TuttiError]:
        """Run the process until it ends: how it did, whether it became ready, and why it did not."""
        try:
            line, process = self._start()
        except OSError as error:
            return str(error), False, EngineDied(f"no process could be started for {self.name}: {error}")
        was_ready, fatal = self._listen(line)
        how = _ended(process)
        died = f"the process of stage {self.stages[0]} ended ({how}) before it was ready; see its log above"
        return how, was_ready, fatal or EngineDied(died)

    def _start(self) -> tuple[Line, subprocess.Popen[bytes]]:
        line, theirs = Line.make()
        process = subprocess.Popen(
            [sys.executable, "-m", "tutti.engine.device_worker", *map(str, theirs)], pass_fds=theirs
        )
        for descriptor in theirs:
            os.close(descriptor)
        self._line, self.pid = line, process.pid
        if self._closing.is_set():
            line.close()
        line.send(self._begin)
        return line, process

    def _listen(self, line: Line) -> tuple[bool, TuttiError | None]:
        """Hand in what comes until the line ends; whether the process became ready, and its last words."""
        was_ready, fatal = False, None
        while (message := line.receive()) is not None:
            if isinstance(message, Fatal):
                fatal = message.error.error()
                log.error("device %s: %s", self.name, fatal)
            elif isinstance(message, Ready) and not self._first.done():
                was_ready = True
                self._first.set_result((line, message))
            else:
                was_ready = was_ready or isinstance(message, Ready)
                self._post(Arrival(functools.partial(self._take, line, message)))
        return was_ready, fatal


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


def _ended(process: subprocess.Popen[bytes]) -> str:
    """How the process ended, whose line has; it is made to if it does not by itself."""
    try:
        code = process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _lost(stages: list[str], how: str) -> StageFailed:
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
