"""The bounded queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.errors import Busy, InvalidRequest
from tutti.gateway.limits import Admission, Limits


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_does_not_fit_is_told_when_to_come_back() -> None:
    admission = Admission(Limits(2, 1))
    with admission.places(2), admission.places(1):
        with pytest.raises(Busy, match="at most 3") as caught, admission.places(1):
            pass
        assert caught.value.retry_after >= 1
    assert admission.inside == 0
    assert admission.refused == 1


def test_more_sequences_than_there_are_places_is_the_callers_fault() -> None:
    with pytest.raises(InvalidRequest, match=r"4 sequences.*at most 3"), Admission(Limits(2, 1)).places(4):
        pass


def test_the_wait_is_estimated_from_recent_throughput() -> None:
    clock = Clock()
    admission = Admission(Limits(1, 100), clock)
    for _ in range(10):  # one sequence every two seconds
        with admission.places(1):
            clock.now += 2
    with admission.places(21):
        clock.now += 2
        assert 35 <= admission.retry_after() <= 45  # twenty wait
    clock.now += 1000
    assert admission.retry_after() == 1  # what happened long ago says nothing


def test_nobody_is_sent_away_for_more_than_a_minute() -> None:
    clock = Clock()
    admission = Admission(Limits(1, 10_000), clock)
    with admission.places(1):
        clock.now += 50
    with admission.places(10_000):
        clock.now += 9
        assert admission.retry_after() == 60


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=40))
def test_the_books_balance_after_any_sequence(steps: list[tuple[int, bool]]) -> None:
    admission = Admission(Limits(4, 3))
    held = []
    for count, leave in steps:
        place = admission.places(count)
        try:
            place.__enter__()
        except Busy:
            assert sum(n for _, n in held) + count > 7
        else:
            held.append((place, count))
        assert admission.inside == sum(n for _, n in held) <= 7
        if leave and held:
            held.pop(0)[0].__exit__(None, None, None)
    for place, _ in held:
        place.__exit__(None, None, None)
    assert admission.inside == 0
