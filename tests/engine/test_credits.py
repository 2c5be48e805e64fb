"""Back-pressure: what is between two loops is bounded, whoever is slow, and nobody rests for ever."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from tutti.engine.credits import ON_THE_WAY, Room, Sent, Taken

MOVES = st.lists(
    st.tuples(st.sampled_from(["send", "take", "compute", "settle", "hear"]), st.integers(1, 200))
)
ENOUGH = 5


@given(moves=MOVES)
def test_whatever_the_order_of_things_queues_are_bounded_and_run_empty(moves: list[tuple[str, int]]) -> None:
    sent, taken = Sent(), Taken()
    way: deque[int] = deque()
    back: deque[Room] = deque()
    queued = 0

    def move(what: str) -> None:
        nonlocal queued
        match what:
            case "send" if not sent.full("r"):
                sent.count("s", "r")
                way.append(1)
            case "take" if way:
                way.popleft()
                taken.count("s", "r")
                queued += 1
            case "compute" if queued:
                queued -= 1
            case "settle":
                back.extend(taken.rooms(lambda stage, request: queued >= ENOUGH))
            case "hear" if back:
                sent.hear(back.popleft())

    for what, times in moves:
        for _ in range(times):
            move(what)
            assert len(way) <= sent.on_the_way("r") <= ON_THE_WAY
    for _ in range(2):  # once everybody has their turn, everything is through and the source may go on
        for what in ("take", "compute", "settle", "hear"):
            for _ in range(2 * ON_THE_WAY + sum(times for _, times in moves)):
                move(what)
    assert not way and not queued and not sent.full("r")


def test_a_stage_is_bounded_by_itself_and_a_request_by_all_of_its_stages() -> None:
    sent = Sent()
    for _ in range(ON_THE_WAY):
        sent.count("a", "r")
    sent.count("b", "r")
    assert sent.full("r") and sent.full("r", "a")
    assert not sent.full("r", "b") and not sent.full("other")
    sent.hear(Room("a", "r", 1, full=False))
    assert not sent.full("r")
    sent.hear(Room("b", "r", 1, full=True))
    assert sent.full("r") and not sent.full("r", "a")
    sent.forget("r")
    assert not sent.full("r")


def test_what_is_over_is_not_told() -> None:
    taken = Taken()
    taken.count("s", "r")
    taken.forget("r")
    assert not [*taken.rooms(lambda stage, request: True)]
