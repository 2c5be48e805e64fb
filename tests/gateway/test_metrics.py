"""What the gateway measures."""

from __future__ import annotations

from tutti.events import Done, ErrorValue, Failed, TextDelta, Usage
from tutti.gateway.metrics import Histogram, ModelMetrics, Watch


class Clock:
    """Time that a test moves."""

    now = 10.0

    def __call__(self) -> float:
        return self.now


def test_a_histogram_counts_what_is_at_most_the_bound() -> None:
    histogram = Histogram((1, 2, 5))
    for value in (0.5, 1, 1.5, 5, 7):
        histogram.observe(value)
    assert histogram.cumulative() == [(1, 2), (2, 3), (5, 4), (float("inf"), 5)]
    assert histogram.total == 15


def test_times_are_measured_per_output() -> None:
    clock, metrics = Clock(), ModelMetrics()
    watch = Watch(metrics, 2, clock)
    for index in (0, 1):
        clock.now += 1
        watch.see(0, TextDelta("r", (1,), "a", index=index))
    for index in (0, 1):
        clock.now += 0.5
        watch.see(0, TextDelta("r", (2,), "b", index=index))
        watch.see(0, TextDelta("r", (), "held back", index=index))
        watch.see(0, Usage("r", 8, 4, 2, 0.1, 0.2, 0.3, index=index))
        watch.see(0, Done("r", "length", index=index))
    watch.finish()
    assert metrics.time_to_first_token.total == 1 + 2
    assert metrics.inter_token.total == 1.5 + 1.0
    assert metrics.generation_tokens == 4
    assert metrics.prompt_tokens == 8  # the outputs share the prompt
    assert metrics.cached_tokens == 4
    assert metrics.finished == {"stop": 0, "length": 2, "abort": 0, "error": 0}
    assert metrics.decode.total == 0.6


def test_what_does_not_end_by_itself_counts_as_aborted() -> None:
    metrics = ModelMetrics()
    watch = Watch(metrics, 3)
    watch.see(0, Done("r", "stop"))
    watch.see(0, Failed("r", ErrorValue("StageFailed", "no"), index=1))
    watch.finish()
    watch.finish()
    assert metrics.finished == {"stop": 1, "length": 0, "abort": 1, "error": 1}


def test_a_refused_request_counts_for_nothing() -> None:
    metrics = ModelMetrics()
    watch = Watch(metrics, 3)
    watch.forget()
    watch.finish()
    assert sum(metrics.finished.values()) == 0
