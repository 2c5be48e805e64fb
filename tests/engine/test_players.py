"""The players' clocks: who listens, until when they have sound, and when they ran dry."""

from __future__ import annotations

import time

import pytest

from tutti.engine.once import Once
from tutti.engine.players import AHEAD, FIRST_SOUND, Players
from tutti.graph import Chunk
from tutti.request import Request


def listener(name: str, live: bool = True) -> Request:
    return Request(id=name, parts=(), modalities=("text", "audio"), live=live)


def test_only_who_listens_has_a_deadline() -> None:
    players = Players()
    players.begin(listener("live"))
    players.begin(listener("file", live=False))
    players.begin(Request(id="text", parts=(), live=True))
    assert players.deadline("live") == pytest.approx(time.monotonic() + FIRST_SOUND, abs=0.1)
    assert players.deadline("file") is None and players.deadline("text") is None


def test_sound_moves_the_deadline_by_its_length() -> None:
    players = Players()
    players.begin(listener("a"))
    players.deliver("a", 2.0)
    first = players.deadline("a")
    assert first == pytest.approx(time.monotonic() + 2.0 - AHEAD, abs=0.1)
    players.deliver("a", 1.5)
    assert first is not None and players.deadline("a") == pytest.approx(first + 1.5)
    assert players.underruns == 0
    players.end("a")
    assert players.deadline("a") is None


def test_sound_that_comes_too_late_is_an_underrun_and_the_clock_starts_anew() -> None:
    players = Players()
    players.begin(listener("a"))
    players.deliver("a", 0.0)
    while (dry := players.deadline("a")) is not None and time.monotonic() <= dry + AHEAD:
        pass
    players.deliver("a", 1.0)
    assert players.underruns == 1
    assert players.deadline("a") == pytest.approx(time.monotonic() + 1.0 - AHEAD, abs=0.1)


class Vocoder:
    """Says in which order it was asked."""

    def take(self, part: object) -> object:
        raise AssertionError

    def cost(self, item: str) -> int:
        return 1

    def bucket(self, item: str) -> str:
        return item

    def run(self, items: list[str]) -> list[str]:
        return items


def test_the_listener_who_would_run_dry_first_is_served_first() -> None:
    players = Players()
    once = Once("sound", Vocoder(), budget=1, players=players)
    for name in ("file", "full", "hungry"):
        players.begin(listener(name, live=name != "file"))
        players.deliver(name, {"file": 0.0, "full": 3.0, "hungry": 0.5}[name])
        once.feed(Chunk(name, "talk", name, final=True))
    served = []
    while batch := once.plan():
        served += [chunk.payload for chunk in once.step(batch)]
    assert served == ["hungry", "full", "file"]
