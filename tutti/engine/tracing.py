"""Records what the loop does for each request, and gives the record away at the request's end.

A record is bounded: a stage keeps at most `_LIMIT` entries. When they are full, those with the shortest pauses between
them are joined, and later ones take twice as many steps. So a step costs a look-up and a few additions for each of its
requests, however long their answers are. Where nobody takes traces, nothing is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tutti.engine.stage import Failure, Item, TokenOutput
from tutti.events import AudioDelta, ErrorValue, Event, Progress, TextDelta, Usage
from tutti.graph import Chunk, Graph
from tutti.request import MediaInput, Request
from tutti.trace import Mark, StageTrace, Steps, Trace

_LIMIT = 64  # entries of a stage
_MARKS = 64  # marks of a request


@dataclass(slots=True)
class _Entry:
    """Some successive steps. Times are monotonic."""

    start: float
    end: float
    busy: float
    count: int
    batch: int  # the sum over the steps
    made: int

    def takes(self, start: float, width: int) -> bool:
        """Whether a step that starts at `start` may join it: no longer a pause before it than a step takes."""
        return self.count < width and start - self.end <= self.busy / self.count

    def add(self, other: _Entry) -> None:
        """Take the steps that follow."""
        self.end = other.end
        self.busy += other.busy
        self.count += other.count
        self.batch += other.batch
        self.made += other.made


@dataclass(slots=True)
class _Stage:
    """One request in one stage."""

    kind: str
    entered: float | None = None
    made: float | None = None
    width: int = 1  # steps that an entry takes
    entries: list[_Entry] = field(default_factory=list)

    def step(self, start: float, end: float, batch: int) -> None:
        """It was in a step."""
        if self.entered is None:
            self.entered = start
        if self.entries and self.entries[-1].takes(start, self.width):
            last = self.entries[-1]
            last.end = end
            last.busy += end - start
            last.count += 1
            last.batch += batch
            return
        if len(self.entries) == _LIMIT:
            self._join()
        self.entries.append(_Entry(start, end, end - start, 1, batch, 0))

    def _join(self) -> None:
        """Halve the entries: those with the shortest pauses between them become one."""
        pauses = [
            after.start - before.end for before, after in zip(self.entries, self.entries[1:], strict=False)
        ]
        joined = set(sorted(range(len(pauses)), key=pauses.__getitem__)[: _LIMIT // 2])
        kept = self.entries[:1]
        for place, entry in enumerate(self.entries[1:]):
            if place in joined:
                kept[-1].add(entry)
            else:
                kept.append(entry)
        self.entries = kept
        self.width *= 2

    def give(self, count: int, now: float) -> None:
        """The step made so many tokens or items for it."""
        if count and self.entries:
            self.made = self.made or now
            self.entries[-1].made += count


@dataclass(slots=True)
class _Record:
    """One request under way."""

    request: Request
    epoch: float  # what monotonic time 0 was, in seconds since the epoch
    submitted: float
    stages: dict[str, _Stage]
    marks: list[Mark] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)  # names of marks
    sound: float = 0.0
    underruns: int = 0
    usage: Usage | None = None


class Passed(msgspec.Struct, frozen=True, tag="passed"):
    """A step of `stage` with a batch of so many items, between two monotonic times, that worked for `requests`.

    `made` are (request, tokens or items).
    """

    stage: str
    start: float
    end: float
    batch: int
    requests: tuple[str, ...]
    made: tuple[tuple[str, int], ...]

    @classmethod
    def of(
        cls, stage: str, batch: Sequence[Item], start: float, end: float, chunks: Sequence[Chunk]
    ) -> Passed:
        """The step that computed `batch` and made `chunks`: also for who shared an item."""
        requests = {item.request_id for item in batch} | {chunk.request for chunk in chunks}
        made = tuple((chunk.request, _made(chunk.payload)) for chunk in chunks)
        return cls(stage, start, end, len(batch), tuple(requests), made)


class Tracing:
    """The records of one loop's requests. See the module."""

    def __init__(self, give: Callable[[Trace], None] | None) -> None:
        """`give` takes each trace at its end; without it nothing is recorded."""
        self._give = give
        self._records: dict[str, _Record] = {}

    def begin(self, request: Request, graph: Graph) -> None:
        """A request comes in and goes through `graph`."""
        if self._give is None:
            return
        now = time.monotonic()
        stages = {
            stage.name: _Stage(str(stage.kind), now if stage.inputs else None) for stage in graph.stages
        }
        self._records[request.id] = _Record(request, time.time() - now, now, stages)

    def fed(self, request_id: str, stage: str) -> None:
        """An edge brought something to `stage`."""
        record = self._records.get(request_id)
        if record is not None and (entry := record.stages.get(stage)) is not None and entry.entered is None:
            entry.entered = time.monotonic()

    def stepped(
        self, stage: str, batch: Sequence[Item], start: float, end: float, chunks: Sequence[Chunk]
    ) -> None:
        """`stage` computed `batch` between two monotonic times, and made `chunks`."""
        if self._records:
            self.passed(Passed.of(stage, batch, start, end, chunks))

    def passed(self, step: Passed) -> None:
        """A step was done, here or in another loop."""
        for request_id in step.requests:
            record = self._records.get(request_id)
            if record is not None and step.stage in record.stages:
                record.stages[step.stage].step(step.start, step.end, step.batch)
        for request_id, count in step.made:
            record = self._records.get(request_id)
            if record is not None and step.stage in record.stages:
                record.stages[step.stage].give(count, step.end)

    def leave(self, event: Event, dry: float = 0.0) -> None:
        """An event leaves the graph; the listener's player had been dry for so many seconds."""
        record = self._records.get(event.request)
        if record is None:
            return
        if isinstance(event, TextDelta):
            _mark_first(record, "first_text")
        elif isinstance(event, AudioDelta):
            _mark_first(record, "first_sound")
            record.sound += event.seconds
            if dry:
                record.underruns += 1
                if len(record.marks) < _MARKS:
                    record.marks.append(Mark("underrun", record.epoch + time.monotonic(), dry))
        elif isinstance(event, Usage):
            record.usage = event

    def end(self, request_id: str, outcome: str, error: ErrorValue | None = None) -> None:
        """A request is over: its trace is given away."""
        record = self._records.pop(request_id, None)
        if record is not None and self._give is not None:
            self._give(_trace(record, outcome, error))


def _mark_first(record: _Record, name: str) -> None:
    if name not in record.seen:
        record.seen.add(name)
        record.marks.append(Mark(name, record.epoch + time.monotonic()))


def _trace(record: _Record, outcome: str, error: ErrorValue | None) -> Trace:
    request, usage = record.request, record.usage or Usage(record.request.id, 0, 0, 0)
    media = {part.modality for part in request.parts if isinstance(part, MediaInput)}
    return Trace(
        request=request.id,
        model=request.model,
        inputs=("text", *sorted(media)),
        outputs=request.modalities,
        arrival=request.arrival,
        submitted=record.epoch + record.submitted,
        ended=record.epoch + time.monotonic(),
        outcome=outcome,
        error=error,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        sound=record.sound,
        underruns=record.underruns,
        marks=tuple(record.marks),
        stages=tuple(_stage_trace(name, stage, record.epoch) for name, stage in record.stages.items()),
    )


def _stage_trace(name: str, stage: _Stage, epoch: float) -> StageTrace:
    return StageTrace(
        name,
        stage.kind,
        None if stage.entered is None else epoch + stage.entered,
        None if stage.made is None else epoch + stage.made,
        tuple(
            Steps(epoch + one.start, epoch + one.end, one.busy, one.count, one.batch / one.count, one.made)
            for one in stage.entries
        ),
    )


def _made(payload: Any) -> int:
    """How many tokens or items a chunk is."""
    if isinstance(payload, Failure | Progress):
        return 0
    return len(payload.tokens) if isinstance(payload, TokenOutput) else 1
