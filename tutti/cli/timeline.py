"""A request's trace as rows over time: what the picture in the terminal and the one in a file have in common.

Times in rows are seconds since the request's arrival.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tutti.trace import Phase, Trace

_NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """Steps that worked for the request; `share` of the time between `start` and `end` was spent in them."""

    phase: str  # reading | prefill | decode | compute
    start: float
    end: float
    share: float
    batch: float
    steps: int
    made: int


@dataclass(frozen=True, slots=True)
class Row:
    """One stage, or the front."""

    name: str
    bars: tuple[Bar, ...]
    waits: tuple[tuple[float, float], ...]  # (start, end) until its first step
    phases: tuple[Phase, ...]
    unit: str  # of what it made


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened."""

    name: str  # first_text | first_sound | underrun
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything there is to draw."""

    title: str
    length: float
    rows: tuple[Row, ...]
    moments: tuple[Moment, ...]

    @classmethod
    def of(cls, trace: Trace) -> Timeline:
        """The timeline of `trace`; one that has not ended reaches to what is known."""
        zero = trace.arrival
        known = [zero, *(trace.reading or ()), *(one.end for stage in trace.stages for one in stage.steps)]
        ended = max(known) if trace.ended is None else trace.ended
        moments = tuple(Moment(mark.name, mark.at - zero, mark.seconds) for mark in trace.marks)
        return cls(_title(trace, ended - zero), max(ended - zero, 1e-6), tuple(_rows(trace, ended)), moments)

    def ticks(self, most: int) -> tuple[float, ...]:
        """At most about `most` round times from 0 on."""
        raw = self.length / max(most, 1)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(nice * power for nice in _NICE if nice * power >= raw)
        return tuple(round(number * step, 9) for number in range(int(self.length / step) + 1))


def _rows(trace: Trace, ended: float) -> list[Row]:
    zero = trace.arrival
    rows = []
    if trace.reading is not None:
        start, end = (moment - zero for moment in trace.reading)
        reading = (Phase("queue", 0.0, start), Phase("reading", start, end))
        rows.append(Row("front", (Bar("reading", start, end, 1.0, 1, 1, 1),), ((0.0, start),), reading, ""))
    for stage in trace.stages:
        phases = tuple(
            Phase(phase.name, phase.start - zero, phase.end - zero) for phase in stage.phases(ended)
        )
        first = next((phase.end for phase in phases if phase.name == "prefill"), None)
        bars = tuple(
            Bar(
                "compute" if first is None else "prefill" if one.start - zero < first else "decode",
                one.start - zero,
                one.end - zero,
                min(1.0, one.busy / max(one.end - one.start, 1e-9)),
                one.batch,
                one.count,
                one.made,
            )
            for one in stage.steps
        )
        waits = tuple((phase.start, phase.end) for phase in phases if phase.name == "queue")
        rows.append(Row(stage.name, bars, waits, phases, "tokens" if first is not None else "items"))
    return rows


def _title(trace: Trace, seconds: float) -> str:
    parts = [trace.request, trace.model, duration(seconds), trace.outcome]
    if trace.prompt_tokens:
        cached = f" ({trace.cached_tokens} cached)" if trace.cached_tokens else ""
        parts.append(f"{trace.prompt_tokens}{cached} tokens in, {trace.completion_tokens} out")
    if trace.sound:
        parts.append(f"{trace.sound:.2f} s of sound")
        parts.append(f"{trace.underruns} underruns" if trace.underruns else "no underrun")
    if trace.error is not None:
        parts.append(trace.error.message)
    return " · ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """For people: 340 µs, 12.3 ms, 1.23 s."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def label(moment: Moment) -> str:
    """What a moment is called in a picture."""
    if moment.name == "underrun":
        return f"dry {duration(moment.seconds)}"
    return moment.name.replace("_", " ")
