"""The players' clocks: when each listener of a stream of sound would hear it stop.

A player starts with the first sound it gets and then plays one second a second. What was delivered to it, and when it
started, say when it runs dry; `AHEAD` of that is the deadline of every stage that works for this listener. A request
whose sound nobody listens to as it comes (a file) has no clock: it is throughput work. A request's own `deadline` says
when its first sound is to be heard, where that is after other sound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tutti.request import Request

FIRST_SOUND = 0.3  # seconds within which a listener hopes to hear something
AHEAD = 0.3  # seconds before a player runs dry that what it plays next is due: its making takes some steps
FILE = 5.0  # seconds that work for a file may rest


@dataclass(slots=True)
class Player:
    """One listener. Times are monotonic, in seconds."""

    due: float  # its first sound
    started: float | None = None
    delivered: float = 0.0  # seconds of sound

    @property
    def dry(self) -> float:
        """When it runs out of sound."""
        return self.due if self.started is None else self.started + self.delivered


class Players:
    """All listeners of one loop."""

    def __init__(self, clocks: bool = True) -> None:
        """Without `clocks`, for measuring what they are worth, a deadline says no more than who came first."""
        self._clocks = clocks
        self.underruns = 0  # times that a player ran dry
        self.seconds_dry = 0.0  # for how long, all together
        self.watch: Callable[[str, float], None] = _unwatched  # is told when a player runs dry from now on
        self._players: dict[str, Player] = {}

    def begin(self, request: Request) -> None:
        """A request comes in; only one that is listened to as it comes gets a clock."""
        if request.live and "audio" in request.modalities:
            now = time.monotonic()
            later = 0.0 if request.deadline is None else now + request.deadline - time.time()
            self._players[request.id] = Player(max(now + FIRST_SOUND, later))

    def deliver(self, request_id: str, seconds: float) -> float:
        """`seconds` of sound go to a listener, who may have run dry before: then the clock starts anew.

        Returns for how long they had been dry, in seconds.
        """
        player = self._players.get(request_id)
        if player is None:
            return 0.0
        now = time.monotonic()
        dry = 0.0
        if player.started is None:
            player.started = now if player.due - now <= FIRST_SOUND else player.due
        elif now > player.dry:
            dry = now - player.dry
            self.underruns += 1
            self.seconds_dry += dry
            player.started = now - player.delivered
        player.delivered += seconds
        self.watch(request_id, player.dry)
        return dry

    def tell(self, request_id: str, dry: float) -> None:
        """Another loop delivered to the request's listener, who now runs dry at `dry`."""
        player = self._players.get(request_id)
        if player is not None:
            player.started, player.delivered = dry, 0.0

    def deadline(self, request_id: str) -> float | None:
        """When work for the request's listener is due, which is `AHEAD` of their running dry; None: nobody listens."""
        player = self._players.get(request_id)
        if player is None:
            return None
        return player.due if player.started is None or not self._clocks else player.dry - AHEAD

    def end(self, request_id: str) -> None:
        """The request is over."""
        self._players.pop(request_id, None)


def _unwatched(request_id: str, dry: float) -> None:
    return
