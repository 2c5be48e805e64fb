"""Who gets which model, and what goes to make room: facts about the decisions, which load nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tutti.gateway.residents import Action, Grant, Load, Residents, State, Unload, Wish


def kinds(actions: Sequence[Action]) -> list[str]:
    """What is to be done, in words."""
    return [f"{type(one).__name__} {one.key if isinstance(one, Unload) else one.wish.key}" for one in actions]


def loaded(residents: Residents, *keys: str, size: int = 4) -> None:
    """Have models loaded, one after the other, that nobody holds."""
    for time, key in enumerate(keys):
        wish = Wish(key, size, 100)
        assert kinds(residents.ask(wish, time)) == [f"Load {key}"]
        assert kinds(residents.loaded(key, time)) == [f"Grant {key}"]
        assert residents.release(key, time) == []


def test_those_who_wait_for_one_load_get_the_model_together() -> None:
    residents = Residents(10)
    assert kinds(residents.ask(Wish("a", 4), 0)) == ["Load a"]
    assert residents.ask(Wish("a", 4), 1) == []
    assert kinds(residents.loaded("a", 2)) == ["Grant a", "Grant a"]
    assert residents.models["a"].holders == 2


def test_the_longest_unused_goes_first_and_only_as_many_as_must() -> None:
    residents = Residents(10)
    loaded(residents, "a", "b")
    assert kinds(residents.ask(Wish("c", 4), 5)) == ["Unload a"]
    assert kinds(residents.unloaded("a", 6)) == ["Load c"]
    assert set(residents.models) == {"b", "c"}


def test_a_model_in_use_stays_and_the_caller_waits_while_others_go_on() -> None:
    residents = Residents(10)
    loaded(residents, "a", "b")
    assert kinds(residents.ask(Wish("a", 4), 5)) == ["Grant a"]
    assert kinds(residents.ask(Wish("b", 4), 6)) == ["Grant b"]
    assert residents.ask(big := Wish("c", 8), 7) == []
    assert residents.ask(Wish("a", 4), 8) == []  # the newcomer is behind who wants it gone
    assert kinds(residents.release("a", 9)) == ["Unload a"]
    assert residents.unloaded("a", 10) == []
    assert kinds(residents.release("b", 11)) == ["Unload b"]
    assert kinds(residents.unloaded("b", 12)) == ["Load c"]
    assert kinds(residents.loaded("c", 13)) == ["Grant c"]
    assert big not in residents.waiting
    assert kinds(residents.release("c", 14)) == ["Unload c"]  # for the one who waits for `a`
    assert kinds(residents.unloaded("c", 15)) == ["Load a"]


def test_a_model_that_need_not_go_is_given_out_though_somebody_waits_for_room() -> None:
    residents = Residents(10)
    loaded(residents, "a", "b")
    assert kinds(residents.ask(Wish("a", 4), 5)) == ["Grant a"]
    assert kinds(residents.ask(Wish("c", 4), 6)) == ["Unload b"]
    assert kinds(residents.ask(Wish("a", 4), 7)) == ["Grant a"]


def test_a_larger_context_reloads_an_idle_model_and_waits_for_a_busy_one() -> None:
    residents = Residents(10)
    loaded(residents, "a")
    assert kinds(residents.ask(Wish("a", 4, 100), 1)) == ["Grant a"]
    assert residents.ask(Wish("a", 6, 200, least=200), 2) == []
    assert kinds(residents.release("a", 3)) == ["Unload a"]
    assert kinds(residents.unloaded("a", 4)) == ["Load a"]
    assert kinds(residents.loaded("a", 5)) == ["Grant a"]
    assert residents.models["a"].size == 6
    assert kinds(residents.ask(Wish("a", 4, 100), 6)) == ["Grant a"]  # a smaller one needs no other


def test_a_model_goes_when_it_has_stayed_long_enough_unused() -> None:
    residents = Residents(10, stays=5)
    loaded(residents, "a")
    assert residents.next_expiry() == 5
    assert residents.settle(4.9) == []
    assert kinds(residents.ask(Wish("a", 4), 4.9)) == ["Grant a"]
    assert residents.next_expiry() is None
    assert residents.settle(20) == []  # it is in use
    assert residents.release("a", 30) == []
    assert kinds(residents.settle(35)) == ["Unload a"]


def test_how_long_it_stays_is_what_was_said_last() -> None:
    residents = Residents(10, stays=5)
    residents.ask(Wish("a", 4, stays=math.inf), 0)
    residents.loaded("a", 0)
    assert residents.release("a", 1) == []
    assert residents.next_expiry() is None
    assert kinds(residents.ask(Wish("a", 4), 2)) == ["Grant a"]
    assert residents.release("a", 3) == []
    assert residents.next_expiry() is None  # who says nothing changes nothing
    residents.ask(Wish("a", 4, stays=0), 4)
    assert kinds(residents.release("a", 5)) == ["Unload a"]


def test_told_to_go_it_goes_when_it_is_idle() -> None:
    residents = Residents(10)
    loaded(residents, "a")
    residents.ask(Wish("a", 4), 1)
    assert residents.expire("a", 2) == []
    assert kinds(residents.release("a", 3)) == ["Unload a"]
    assert residents.expire("nosuch", 4) == []


def test_no_more_models_than_are_allowed() -> None:
    residents = Residents(100, most=1)
    loaded(residents, "a")
    assert kinds(residents.ask(Wish("b", 1), 1)) == ["Unload a"]


def test_a_load_that_fails_ends_the_wishes_for_it_and_no_others() -> None:
    residents = Residents(10)
    residents.ask(first := Wish("a", 6, 100), 0)
    residents.ask(second := Wish("a", 6, 100), 0)
    residents.ask(larger := Wish("a", 8, 200, least=200), 0)
    residents.ask(other := Wish("b", 6), 0)
    lost, actions = residents.failed("a", 1)
    assert lost == [first, second]
    assert kinds(actions) == ["Load a"]  # with the larger context
    assert residents.waiting == [larger, other]


def test_a_model_whose_callers_all_left_is_there_for_the_next() -> None:
    residents = Residents(10, stays=5)
    wish = Wish("a", 4)
    residents.ask(wish, 0)
    assert residents.withdraw(wish, 1) == []
    assert residents.loaded("a", 2) == []
    assert kinds(residents.ask(Wish("a", 4), 3)) == ["Grant a"]
    residents.release("a", 4)
    assert kinds(residents.settle(9)) == ["Unload a"]


SIZES = {"a": 3, "b": 4, "c": 5, "d": 9}


@given(
    st.integers(0, 3),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["ask", "larger", "brief", "withdraw", "release", "load", "fail", "unload", "pass"]
            ),
            st.integers(0, 7),
        ),
        max_size=60,
    ),
)
def test_any_sequence_keeps_within_the_memory_and_leaves_nobody_waiting(
    most: int, steps: list[tuple[str, int]]
) -> None:
    residents = Residents(10, most, stays=7)
    held: list[str] = []  # one entry for each grant that was not given back
    loading: list[str] = []
    leaving: list[str] = []
    now = 0.0

    def do(actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Grant):
                model = residents.models[action.wish.key]
                assert model.state is State.READY
                assert model.context >= action.wish.least
                held.append(model.key)
            elif isinstance(action, Load):
                loading.append(action.wish.key)
            else:
                assert action.key not in held
                leaving.append(action.key)
        assert residents.taken <= 10
        assert not most or len(residents.models) <= most
        assert all(model.holders == held.count(key) for key, model in residents.models.items())

    def step(name: str, number: int) -> None:
        key = "abcd"[number % 4]
        if name == "ask":
            do(residents.ask(Wish(key, SIZES[key], 100), now))
        elif name == "larger":
            do(residents.ask(Wish(key, SIZES[key] + 1, 200, least=200), now))
        elif name == "brief":
            do(residents.ask(Wish(key, SIZES[key], 100, stays=0), now))
        elif name == "withdraw" and residents.waiting:
            do(residents.withdraw(residents.waiting[number % len(residents.waiting)], now))
        elif name == "release" and held:
            do(residents.release(held.pop(number % len(held)), now))
        elif name == "load" and loading:
            do(residents.loaded(loading.pop(number % len(loading)), now))
        elif name == "fail" and loading:
            lost, actions = residents.failed(loading.pop(number % len(loading)), now)
            assert not any(wish in residents.waiting for wish in lost)
            do(actions)
        elif name == "unload" and leaving:
            do(residents.unloaded(leaving.pop(number % len(leaving)), now))
        elif name == "pass":
            do(residents.settle(now))

    for name, number in steps:
        now += number
        step(name, number)
    for _ in range(10 * len(steps) + 10):  # everything that was begun ends, and no more callers come
        if not (residents.waiting or held or loading or leaving):
            break
        for name in ("load", "unload", "release"):
            step(name, 0)
    assert not residents.waiting
    now += 8
    do(residents.settle(now))
    while leaving:
        step("unload", 0)
    assert not residents.models
