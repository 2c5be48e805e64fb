"""The record of a request is bounded and loses nothing that is counted; without a taker there is none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.test_loop import GRAPH, Bench, picture
from tutti.engine.tracing import Tracing
from tutti.events import Failed
from tutti.graph import Chunk
from tutti.request import Request
from tutti.trace import Trace


@dataclass(frozen=True)
class Share:
    """A request's share of a batch."""

    request_id: str


class Traced(Bench):
    """The toy graph's loop, with its traces."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        super().__init__(self.traces.append)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.001, 1), st.integers(1, 9)), min_size=1, max_size=500))
def test_a_record_is_bounded_and_its_sums_are_those_of_all_steps(
    steps: list[tuple[float, float, int]],
) -> None:
    taken: list[Trace] = []
    tracing = Tracing(taken.append)
    tracing.begin(Request(id="r", parts=(), modalities=("audio",)), GRAPH)
    now = 0.0
    for pause, length, batch in steps:
        items = [Share("r" if n == 0 else f"other{n}") for n in range(batch)]
        tracing.stepped(
            "sing",
            items,
            now + pause,
            now + pause + length,
            [Chunk("r", "sing", "a sound"), Chunk("q", "sing", "")],
        )
        now += pause + length
    tracing.end("r", "stop")
    (trace,) = taken
    stage = trace.stages[2]
    assert stage.name == "sing" and len(stage.steps) <= 64
    assert stage.count == stage.outputs == len(steps)
    assert stage.busy == pytest.approx(sum(length for _, length, _ in steps))
    assert stage.batch == pytest.approx(sum(batch for *_, batch in steps) / len(steps))
    ends = [moment for one in stage.steps for moment in (one.start, one.end)]
    assert ends == sorted(ends)
    if len(steps) <= 64 and all(pause > 2 * length for pause, length, _ in steps):
        assert len(stage.steps) == len(steps)


def test_each_request_of_a_loop_gets_its_trace_before_its_last_event() -> None:
    bench = Traced()
    for number in range(3):
        bench.submit(str(number), picture(number + 1))
    bench.submit("bad", b"123")
    bench.run()
    assert sorted(trace.request for trace in bench.traces) == ["0", "1", "2", "bad"]
    by_name = {trace.request: trace for trace in bench.traces}
    assert by_name["bad"].outcome == "error" and by_name["bad"].error is not None
    assert isinstance(bench.ends()["bad"], Failed)
    for name in "012":
        see, dream, sing = by_name[name].stages
        assert (see.count, dream.count, sing.count) == (1, 4, 1)
        assert see.batch == 3 and [phase.name for phase in dream.phases(0)] == ["queue", "compute"]
        assert see.steps[-1].end <= dream.steps[0].start and dream.steps[-1].end <= sing.steps[0].start
        assert dream.entered is not None and dream.entered >= see.steps[-1].end


def test_who_shares_a_picture_with_another_sees_it_computed_too() -> None:
    bench = Traced()
    bench.submit("a", picture(1))
    bench.submit("b", picture(1))
    bench.run()
    assert bench.encoder.batches == [1]
    assert [trace.stages[0].outputs for trace in bench.traces] == [1, 1]
    assert [trace.stages[0].count for trace in bench.traces] == [1, 1]


def test_a_cancelled_request_has_a_trace_of_what_it_had() -> None:
    bench = Traced()
    bench.submit("a", picture(1))
    bench.loop.turn()
    bench.loop.cancel("a")
    (trace,) = bench.traces
    assert trace.outcome == "cancelled"
    assert [stage.count for stage in trace.stages] == [1, 0, 0]
    assert trace.ended is not None and trace.stages[2].phases(trace.ended) == ()


def test_nothing_is_recorded_where_nobody_takes_it() -> None:
    bench = Bench()
    bench.submit("a", picture(1))
    bench.loop.turn()
    assert not bench.loop.tracing._records
