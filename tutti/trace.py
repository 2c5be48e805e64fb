"""A request's trace: when it waited, when each stage computed for it, when its listener heard something.

Values only. The engine's loop makes one at a request's end (`engine.tracing`), the front adds what happened there
(`gateway.traces`), the doors show it: as JSON, as a picture, as OpenTelemetry's spans. Times are in seconds since the
epoch.
"""

from __future__ import annotations

import msgspec

from tutti.events import ErrorValue

RUNNING = "running"  # the outcome of a request that has none yet


class Steps(msgspec.Struct, frozen=True):
    """Successive steps of one stage that worked for the request.

    `busy` is how many of the seconds between `start` and `end` were spent in those steps; `batch` is the mean size of
    their batches; `made` counts the tokens (or items) that they made for this request.
    """

    start: float
    end: float
    busy: float
    count: int
    batch: float
    made: int


class Phase(msgspec.Struct, frozen=True):
    """A part of a request's time in one stage: queue, prefill, decode or compute."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


class StageTrace(msgspec.Struct, frozen=True):
    """A request's passage through one stage.

    `entered` is when there was first something to do for it; `made` when it first gave something; both None if that
    was never reached. `steps` are joined where there were many, over the shortest pauses.
    """

    name: str
    kind: str  # autoregress | denoise | once
    entered: float | None
    made: float | None
    steps: tuple[Steps, ...]

    @property
    def count(self) -> int:
        """How many steps worked for the request."""
        return sum(steps.count for steps in self.steps)

    @property
    def busy(self) -> float:
        """Seconds in steps that worked for the request, others in their batches included."""
        return sum(steps.busy for steps in self.steps)

    @property
    def outputs(self) -> int:
        """Tokens or items made."""
        return sum(steps.made for steps in self.steps)

    @property
    def batch(self) -> float:
        """The mean size of the batches."""
        return sum(steps.batch * steps.count for steps in self.steps) / max(self.count, 1)

    def phases(self, ended: float) -> tuple[Phase, ...]:
        """What it did, in order; `ended` is when the request did."""
        if self.entered is None:
            return ()
        if not self.steps:
            return (Phase("queue", self.entered, ended),)
        first, last = self.steps[0].start, self.steps[-1].end
        queue = Phase("queue", min(self.entered, first), first)
        if self.kind != "autoregress":
            return (queue, Phase("compute", first, last))
        made = last if self.made is None else self.made
        decode = (Phase("decode", made, last),) if last > made else ()
        return (queue, Phase("prefill", first, made), *decode)


class Mark(msgspec.Struct, frozen=True):
    """A moment: first_text, first_sound, or underrun (the listener's player had been dry for `seconds`)."""

    name: str
    at: float
    seconds: float = 0.0


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One request from its arrival to its end.

    `outcome` is why it ended (stop, length, cancelled, error), or "running". `reading` is when its text and media
    became tokens and arrays: (start, end). `submitted` is when it came to the engine. `call` is the id of the HTTP call
    it came by, `parent` the caller's W3C traceparent. `underruns` counts them all, `marks` has the first ones.
    """

    request: str
    model: str = ""
    operation: str = "chat"  # chat | text_completion | speech | embeddings
    inputs: tuple[str, ...] = ("text",)
    outputs: tuple[str, ...] = ("text",)
    call: str = ""
    parent: str | None = None
    arrival: float = 0.0
    reading: tuple[float, float] | None = None
    submitted: float | None = None
    ended: float | None = None
    outcome: str = RUNNING
    error: ErrorValue | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    sound: float = 0.0  # seconds that it was given to hear
    underruns: int = 0
    marks: tuple[Mark, ...] = ()
    stages: tuple[StageTrace, ...] = ()

    def mark(self, name: str) -> Mark | None:
        """The first mark called `name`."""
        return next((mark for mark in self.marks if mark.name == name), None)

    def is_of(self, name: str) -> bool:
        """Whether `name` is its id, the id that a door gave (`chatcmpl-...`) or that of its HTTP call."""
        return name == self.call or f"-{name}-" in f"-{self.request.replace('#', '-')}-"
