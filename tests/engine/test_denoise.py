"""The stage of denoising by itself: fair turns, budgets, refusals, and nothing left when somebody leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.engine.denoise import Denoise
from tutti.engine.later import Later
from tutti.engine.stage import Failure
from tutti.errors import Busy, InvalidRequest, StageFailed
from tutti.events import Progress
from tutti.graph import Chunk
from tutti.request import Drawing, Request


@dataclass(frozen=True)
class Sheet:
    size: int
    steps: int
    done: int = 0
    broken: bool = False


class Counter:
    """A model that counts its steps; of the sizes that it is told, like ones share a batch. It breaks at `breaks`."""

    def __init__(self, *, packs: bool = False) -> None:
        self.packs = packs
        self.breaks: set[int] = set()
        self.batches: list[list[int]] = []
        self.keeps = False

    def start(self, request: Request, condition: object) -> Sheet:
        drawing = request.parts[0]
        assert isinstance(drawing, Drawing)
        return Sheet(drawing.width or 1, drawing.steps or 1)

    def cost(self, state: Sheet) -> int:
        return state.size

    def key(self, state: Sheet) -> int:
        return 0 if self.packs else state.size

    def step(self, states: list[Sheet]) -> list[Sheet]:
        self.batches.append([state.size for state in states])
        return [replace(one, done=one.done + 1, broken=one.size in self.breaks) for one in states]

    def kept(self, state: Sheet) -> int:
        return state.size if self.keeps else 0

    def skipped(self, state: Sheet) -> int:
        return 0

    def fault(self, state: Sheet) -> str | None:
        return "it broke" if state.broken else None

    def progress(self, state: Sheet) -> tuple[int, int]:
        return state.done, state.steps

    def preview(self, state: Sheet) -> str | None:
        return "half" if state.done * 2 == state.steps else None

    def result(self, state: Sheet) -> str:
        return f"{state.size} in {state.done}"


def stage(**more: int) -> tuple[Denoise, Counter]:
    model = Counter()
    return Denoise("draw", model, **{"budget": 100, "fed": False, **more}), model


def request(name: str, size: int = 10, steps: int = 4, priority: int = 0) -> Request:
    return Request(id=name, parts=(Drawing(width=size, steps=steps),), priority=priority)


def finish(denoise: Denoise) -> dict[str, object]:
    """Step until nothing is left; each request's last payload."""
    last = {}
    while batch := denoise.plan():
        for chunk in denoise.step(batch):
            if chunk.final:
                last[chunk.request] = chunk.payload
    return last


def test_requests_join_and_leave_between_steps() -> None:
    denoise, model = stage()
    denoise.admit(request("a", steps=3))
    denoise.step(denoise.plan())
    denoise.admit(request("b", steps=3))
    assert finish(denoise) == {"a": "10 in 3", "b": "10 in 3"}
    assert model.batches == [[10], [10, 10], [10, 10], [10]]


def test_each_step_tells_how_far_it_is_and_a_preview_comes_when_it_is_due() -> None:
    denoise, _ = stage()
    denoise.admit(request("a", steps=2))
    first, second = denoise.step(denoise.plan()), denoise.step(denoise.plan())
    assert first == [
        Chunk("a", "draw", Progress("a", "draw", 1, 2)),
        Chunk("a", "draw", "half"),
    ]
    assert second == [
        Chunk("a", "draw", Progress("a", "draw", 2, 2)),
        Chunk("a", "draw", "10 in 2", final=True),
    ]


def test_a_late_small_picture_waits_for_steps_of_a_large_one_and_not_for_all_of_it() -> None:
    denoise, _ = stage()
    denoise.admit(request("large", size=90, steps=50))
    for _ in range(5):
        denoise.step(denoise.plan())
    denoise.admit(request("small", size=10, steps=9))
    large = 0
    while "small" in denoise:
        batch = denoise.plan()
        large += any(item.request_id == "large" for item in batch)
        denoise.step(batch)
    assert large <= 2  # it gets as much of the machine as the large one: nine of its steps are one of those
    assert finish(denoise) == {"large": "90 in 50"}


def test_small_ones_that_keep_coming_do_not_keep_a_large_one_from_its_steps() -> None:
    denoise, _ = stage()
    denoise.admit(request("large", size=90, steps=20))
    small = 0
    while "large" in denoise and small < 10_000:
        if denoise.running == 1:
            denoise.admit(request(f"small {small}", size=10, steps=1))
            small += 1
        denoise.step(denoise.plan())
    assert 20 * 9 < small <= 20 * 9 * 4  # it has between a quarter of the machine and half


def test_the_shortest_of_those_in_the_queue_takes_its_turn() -> None:
    denoise, _ = stage(turns=2, budget=10)
    for name in ("a", "b", "c"):
        denoise.admit(request(name, size=10, steps=20))
    denoise.admit(request("short", size=9, steps=1))
    for _ in range(4):
        denoise.step(denoise.plan())
    assert "short" not in denoise and all(name in denoise for name in "abc")
    assert denoise.running == 2 and denoise.waiting == 1


def test_a_batch_keeps_to_the_budget_and_one_alone_may_exceed_it() -> None:
    denoise, model = stage(budget=25)
    for name in ("a", "b", "c"):
        denoise.admit(request(name, steps=1))
    denoise.admit(request("huge", size=70, steps=1))
    finish(denoise)
    assert sorted(map(tuple, model.batches)) == [(10,), (10, 10), (70,)]


def test_pictures_of_different_sizes_share_a_batch_where_the_model_packs_them() -> None:
    model = Counter(packs=True)
    denoise = Denoise("draw", model, budget=100, fed=False)
    for size in (10, 20, 30):
        denoise.admit(request(str(size), size=size, steps=2))
    finish(denoise)
    assert model.batches == [[10, 20, 30], [10, 20, 30]]


def test_who_matters_more_goes_first() -> None:
    denoise, model = stage(budget=10)
    denoise.admit(request("later", size=10, steps=2))
    denoise.admit(request("now", size=9, steps=2, priority=-1))
    finish(denoise)
    assert model.batches == [[9], [9], [10], [10]]


def test_what_never_fits_is_refused_with_both_numbers() -> None:
    denoise, _ = stage(largest=50)
    with pytest.raises(InvalidRequest, match="60 tokens, and there is memory for 50"):
        denoise.admit(request("a", size=60))
    assert "a" not in denoise and not denoise.plan()


def test_too_many_requests_are_sent_away() -> None:
    denoise, _ = stage(max_requests=2)
    denoise.admit(request("a"))
    denoise.admit(request("b"))
    with pytest.raises(Busy):
        denoise.admit(request("c"))


def test_a_picture_that_breaks_fails_alone() -> None:
    model = Counter(packs=True)
    denoise = Denoise("draw", model, budget=100, fed=False)
    denoise.admit(request("good", size=10))
    denoise.admit(request("bad", size=20))
    model.breaks = {20}
    ends = finish(denoise)
    assert ends["good"] == "10 in 4"
    assert isinstance(ends["bad"], Failure) and isinstance(ends["bad"].error, StageFailed)
    assert ends["bad"].error.stage == "draw" and "it broke" in ends["bad"].error.message


def test_a_request_waits_for_its_condition_and_what_comes_for_one_that_is_gone_is_dropped() -> None:
    denoise, _ = stage(fed=True)
    denoise.admit(request("a"))
    denoise.admit(request("b"))
    assert denoise.plan() == [] and denoise.urgency() is None
    denoise.release("a")
    denoise.feed(Chunk("a", "text", None))
    denoise.feed(Chunk("b", "text", None))
    assert finish(denoise) == {"b": "10 in 4"}


def test_where_a_stage_that_writes_is_before_it_only_those_that_are_drawn_count_and_more_wait() -> None:
    denoise, model = stage(fed=True, max_requests=2, patient=True)
    for name in "abcd":
        denoise.admit(request(name, steps=1))
    assert denoise.urgency() is None
    for name in "abc":
        denoise.feed(Chunk(name, "text", None))
    assert denoise.running == 2 and denoise.waiting == 1
    denoise.release("a")
    assert denoise.urgency() is not None
    assert finish(denoise) == {"b": "10 in 1", "c": "10 in 1"}
    assert model.batches == [[10, 10]] and "d" in denoise
    denoise.release("d")
    assert denoise.waiting == 0 and denoise.urgency() is None


def test_who_waits_for_a_place_and_cannot_be_drawn_fails_when_it_begins() -> None:
    denoise, _ = stage(fed=True, max_requests=1, patient=True, largest=50)
    for name, size in (("a", 10), ("b", 60)):
        denoise.admit(request(name, size=size, steps=1))
        denoise.feed(Chunk(name, "text", None))
    denoise.step(denoise.plan())
    with pytest.raises(InvalidRequest, match="60 tokens, and there is memory for 50"):
        denoise.step(denoise.plan())
    denoise.release("b")
    assert denoise.plan() == [] and denoise.urgency() is None


def test_a_late_model_is_built_when_the_first_condition_comes_and_is_tried_again_when_it_failed() -> None:
    woken, attempts, broken = Event(), [], [True]

    def build() -> dict[str, Counter]:
        attempts.append(1)
        if broken[0]:
            raise StageFailed("it is broken")
        return {"draw": Counter()}

    denoise = Denoise("draw", Later(build, woken.set), budget=100, fed=True, patient=True)
    denoise.admit(request("a"))
    assert not attempts
    denoise.feed(Chunk("a", "text", None))
    assert woken.wait(30)
    with pytest.raises(StageFailed, match="it is broken"):
        denoise.step(denoise.plan())
    denoise.release("a")
    broken[0] = False
    woken.clear()
    denoise.admit(request("b"))
    denoise.feed(Chunk("b", "text", None))
    assert woken.wait(30)
    assert finish(denoise) == {"b": "10 in 4"} and len(attempts) == 2


@given(
    st.lists(st.tuples(st.sampled_from(["admit", "step", "cancel"]), st.integers(0, 5), st.integers(1, 40)))
)
def test_nothing_is_left_whatever_happens(actions: list[tuple[str, int, int]]) -> None:
    denoise, _ = stage(max_requests=4, turns=2)
    for action, number, size in actions:
        if action == "admit" and str(number) not in denoise and denoise.running + denoise.waiting < 4:
            denoise.admit(request(str(number), size=size, steps=number + 1))
        elif action == "cancel":
            denoise.release(str(number))
        elif batch := denoise.plan():
            assert len({item.cost for item in batch}) == 1
            denoise.step(batch)
    finish(denoise)
    assert denoise.running == denoise.waiting == 0 and denoise.urgency() is None
    assert not any(str(number) in denoise for number in range(6))


def test_requests_that_keep_something_begin_when_there_is_room_for_it() -> None:
    denoise, model = stage(pool=25)
    model.keeps = True
    for name in "abc":
        denoise.admit(request(name, steps=2))
    model.keeps = False
    denoise.admit(request("free", steps=2))
    finished = finish(denoise)
    assert set(finished) == {"a", "b", "c", "free"}
    assert model.batches == [[10, 10, 10], [10, 10, 10], [10], [10]]  # c waits for a and b


def test_who_waits_for_room_is_not_overtaken_by_who_needs_less_of_it() -> None:
    denoise, model = stage(pool=25)
    model.keeps = True
    for name, size in (("first", 10), ("large", 20), ("small", 5)):
        denoise.admit(request(name, steps=1, size=size))
    finish(denoise)
    assert model.batches == [[10], [20], [5]]


def test_what_there_can_never_be_room_for_is_refused() -> None:
    denoise, model = stage(pool=25)
    model.keeps = True
    with pytest.raises(InvalidRequest, match="takes 26 B, and there is memory for 25 B") as caught:
        denoise.admit(request("large", size=26))
    assert caught.value.param == "cache"
