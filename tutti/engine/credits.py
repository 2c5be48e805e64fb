"""Back-pressure between two loops: how much one may send of a request before the other has taken it.

The sender counts what it sends of each stage and request, the receiver says what it has taken and whether the stages
behind have enough to do for the request (`Room`). A source rests while too much is on the way, or while they have. So
what is between two processes is bounded, whichever of them is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

ON_THE_WAY = 128  # chunks of one stage for one request that were sent and not taken


class Room(msgspec.Struct, frozen=True, tag="room"):
    """Of what `stage` emitted for `request`, `taken` chunks were taken; `full`: the stages behind it have enough."""

    stage: str
    request: str
    taken: int
    full: bool


@dataclass(slots=True)
class _Way:
    sent: int = 0
    taken: int = 0
    full: bool = False


class Sent:
    """The sender's account."""

    def __init__(self) -> None:
        self._ways: dict[str, dict[str, _Way]] = {}  # by request and stage

    def count(self, stage: str, request: str) -> None:
        """One more chunk is sent."""
        self._ways.setdefault(request, {}).setdefault(stage, _Way()).sent += 1

    def hear(self, room: Room) -> None:
        """What the receiver says."""
        way = self._ways.get(room.request, {}).get(room.stage)
        if way is not None:
            way.taken, way.full = room.taken, room.full

    def full(self, request: str, stage: str | None = None) -> bool:
        """Whether nothing more should be sent of `request` now, or of what `stage` emits for it."""
        return any(
            (way.full or way.sent - way.taken >= ON_THE_WAY) and stage in (None, name)
            for name, way in self._ways.get(request, {}).items()
        )

    def forget(self, request: str) -> None:
        """The request is over."""
        self._ways.pop(request, None)

    def on_the_way(self, request: str) -> int:
        """Chunks of `request` that were sent and not taken."""
        return sum(way.sent - way.taken for way in self._ways.get(request, {}).values())


class Taken:
    """The receiver's account."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[str, int]] = {}  # by request and stage
        self._news: dict[tuple[str, str], None] = {}  # what the sender does not know yet
        self._full: set[tuple[str, str]] = set()  # what it was told to be full

    def count(self, stage: str, request: str) -> None:
        """One more chunk is taken."""
        stages = self._taken.setdefault(request, {})
        stages[stage] = stages.get(stage, 0) + 1
        self._news[stage, request] = None

    def rooms(self, full: Callable[[str, str], bool]) -> Iterator[Room]:
        """What to tell the sender; `full` says of a stage and a request whether what is behind it has enough."""
        for stage, request in [*self._full]:
            if not full(stage, request):
                self._full.discard((stage, request))
                self._news[stage, request] = None
        for stage, request in self._news:
            enough = full(stage, request)
            if enough:
                self._full.add((stage, request))
            yield Room(stage, request, self._taken[request][stage], enough)
        self._news = {}

    def forget(self, request: str) -> None:
        """The request is over."""
        for stage in self._taken.pop(request, ()):
            self._news.pop((stage, request), None)
            self._full.discard((stage, request))
