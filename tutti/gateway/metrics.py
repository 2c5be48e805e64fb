"""What the gateway measures of every request: counts and times, per model.

Plain numbers that are cheap to update on every token; how they are shown (Prometheus) is the API's business. Times
are in seconds. The buckets of the histograms are those vLLM's dashboards are drawn for, with finer ones below.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from tutti.events import Done, Event, Failed, TextDelta, Usage

FAST = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
STEPS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.01, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 480.0)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Histogram:
    """Counts of observations per bucket; a bucket holds what is at most its upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper bound, observations up to it), the last bound infinite."""
        found = []
        running = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            found.append((bound, running))
        return found


class ModelMetrics:
    """What has happened to one model and its requests since the server started."""

    def __init__(self) -> None:
        self.loads = 0
        self.load_failures = 0
        self.load_seconds = 0.0  # of all loads that came to something
        self.unloads = 0
        self.evictions = 0  # those of them that made room for another model
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(("stop", "length", "abort", "error"), 0)
        self.time_to_first_token = Histogram(FAST)
        self.inter_token = Histogram(STEPS)
        self.time_per_output_token = Histogram(STEPS)
        self.end_to_end = Histogram(SLOW)
        self.queue = Histogram(SLOW)
        self.prefill = Histogram(SLOW)
        self.decode = Histogram(SLOW)
        self.inference = Histogram(SLOW)
        self.request_prompt_tokens = Histogram(TOKENS)
        self.request_generation_tokens = Histogram(TOKENS)


@dataclass(slots=True)
class Watch:
    """Watches one request's events. `finish` must be called once, however the request ends."""

    metrics: ModelMetrics
    sequences: int  # how many ends there will be, if all goes well
    clock: Callable[[], float] = time.monotonic
    _start: float = 0.0
    _last: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start = self.clock()

    def see(self, prompt: int, event: Event) -> None:
        """Measure an event of the `prompt`-th prompt."""
        if isinstance(event, TextDelta):
            if event.tokens:
                self._token(prompt, event)
        elif isinstance(event, Usage):
            self._usage(event)
        elif isinstance(event, Done):
            self._end("abort" if event.reason == "cancelled" else event.reason)
        elif isinstance(event, Failed):
            self._end("error")

    def forget(self) -> None:
        """Expect no more ends: the request was refused."""
        self.sequences = 0

    def finish(self) -> None:
        """Count the sequences that have not ended by themselves as aborted."""
        while self.sequences > 0:
            self._end("abort")

    def _token(self, prompt: int, event: TextDelta) -> None:
        now = self.clock()
        key = (prompt, event.index)
        before = self._last.get(key)
        if before is None:
            self.metrics.time_to_first_token.observe(now - self._start)
        else:
            self.metrics.inter_token.observe(now - before)
        self._last[key] = now
        self.metrics.generation_tokens += len(event.tokens)

    def _usage(self, usage: Usage) -> None:
        metrics = self.metrics
        if usage.index == 0:  # the outputs of one prompt share it
            metrics.prompt_tokens += usage.prompt_tokens
            metrics.cached_tokens += usage.cached_tokens
            metrics.request_prompt_tokens.observe(usage.prompt_tokens)
        metrics.request_generation_tokens.observe(usage.completion_tokens)
        metrics.queue.observe(usage.queue_time)
        metrics.prefill.observe(usage.prefill_time)
        metrics.decode.observe(usage.decode_time)
        metrics.inference.observe(usage.prefill_time + usage.decode_time)
        if usage.completion_tokens > 1:
            metrics.time_per_output_token.observe(usage.decode_time / (usage.completion_tokens - 1))

    def _end(self, reason: str) -> None:
        self.sequences -= 1
        self.metrics.finished[reason] = self.metrics.finished.get(reason, 0) + 1
        self.metrics.end_to_end.observe(self.clock() - self._start)
