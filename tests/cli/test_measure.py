"""What a benchmark's numbers mean."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.cli.load import Job, drive, random_jobs
from tutti.cli.measure import Record, Summary, percentile


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: int) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(
        float(numpy.percentile(values, percent)), abs=1e-6
    )


def test_times_of_one_request() -> None:
    record = Record(prompt_tokens=3, output_tokens=5, sent=10.0, pieces=[11.0, 11.5, 12.5], ended=13.0)
    assert (record.ttft, record.e2e, record.itl, record.tpot) == (1.0, 3.0, [0.5, 1.0], 1.5 / 4)


def test_failed_requests_count_as_failed_and_nothing_else() -> None:
    good = Record(prompt_tokens=3, output_tokens=2, sent=0.0, pieces=[0.1, 0.2], ended=0.2)
    bad = Record(prompt_tokens=3, output_tokens=9, sent=0.0, error="no")
    summary = Summary.of([good, bad], 2.0)
    assert (summary.completed, summary.failed, summary.output_tokens) == (1, 1, 2)
    assert summary.output_throughput == 1.0
    assert summary.as_json()["median_ttft_ms"] == 100.0


def test_what_was_not_measured_is_null_in_the_file() -> None:
    assert Summary.of([], 1.0).as_json()["mean_itl_ms"] is None


def test_random_jobs_share_a_prefix_and_repeat_by_seed() -> None:
    jobs = random_jobs(5, pool=range(100, 200), prompt=7, output=2, shared=3, seed=1)
    assert jobs == random_jobs(5, pool=range(100, 200), prompt=7, output=2, shared=3, seed=1)
    assert len({job.prompt[:3] for job in jobs}) == 1
    assert len({job.prompt for job in jobs}) == 5
    assert all(len(job.prompt) == 10 for job in jobs)


@dataclass
class Stopwatch:
    """A sender that takes `seconds` and notes how many are inside."""

    seconds: float
    inside: int = 0
    most: int = 0

    async def send(self, job: Job, record: Record) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(self.seconds)
        record.piece()
        record.ended = time.perf_counter()
        self.inside -= 1


async def test_no_more_than_the_allowed_number_are_in_flight() -> None:
    sender = Stopwatch(0.002)
    records, _ = await drive([Job("x", 1)] * 20, sender, concurrency=3)
    assert sender.most == 3
    assert all(record.ended is not None for record in records)


async def test_requests_come_at_the_rate_asked_for() -> None:
    records, _ = await drive([Job("x", 1)] * 40, Stopwatch(0.0), rate=400.0, seed=3)
    sent = [record.sent for record in records]
    assert sent == sorted(sent)
    assert 0.03 < sent[-1] - sent[0] < 1.0
    at_once, _ = await drive([Job("x", 1)] * 40, Stopwatch(0.0), rate=math.inf)
    assert at_once[-1].sent - at_once[0].sent < 0.1
