"""The bounded queue: how many sequences may run and wait, and when a caller who is turned away should come back.

It counts what this process has sent to a backend, so that the answer is immediate and exact. It does not schedule:
which of the waiting runs next is the engine's business.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tutti.errors import InvalidRequest, QueueFull

_RECENT = 64  # departures from which the throughput is estimated
_STALE = 60.0  # seconds after which a departure says nothing about now
_LONGEST_WAIT = 60.0  # seconds; nobody is sent away for longer


@dataclass(frozen=True, slots=True)
class Limits:
    """At most `max_num_seqs` sequences run and `max_queue` wait."""

    max_num_seqs: int = 256
    max_queue: int = 256

    @property
    def capacity(self) -> int:
        """All the sequences that may be here at once."""
        return self.max_num_seqs + self.max_queue


class Admission:
    """Counts the sequences that are inside one backend."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.inside = 0
        self.refused = 0
        self._clock = clock
        self._departures: deque[float] = deque(maxlen=_RECENT)

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Holds `count` places. Raises QueueFull when they are taken, InvalidRequest when there never are so many."""
        if count > self.limits.capacity:
            raise InvalidRequest(
                f"The request needs {count} sequences at once; this server takes at most {self.limits.capacity} "
                f"({self.limits.max_num_seqs} running, {self.limits.max_queue} waiting). Ask for a smaller n.",
                param="n",
            )
        if self.inside + count > self.limits.capacity:
            self.refused += 1
            wait = self.retry_after()
            raise QueueFull(
                f"The server is busy: {self.inside} sequences run or wait, and it takes at most "
                f"{self.limits.capacity}. Try again in {wait:.0f} s.",
                retry_after=wait,
            )
        self.inside += count
        try:
            yield
        finally:
            self.inside -= count
            now = self._clock()
            self._departures.extend([now] * min(count, _RECENT))

    def retry_after(self) -> float:
        """Whole seconds until those who wait now should have been served, by the throughput of the last minute."""
        now = self._clock()
        recent = [then for then in self._departures if now - then < _STALE]
        if not recent:
            return 1.0
        rate = len(recent) / max(now - recent[0], 0.1)
        waiting = max(self.inside - self.limits.max_num_seqs, 1)
        return float(min(max(math.ceil(waiting / rate), 1), _LONGEST_WAIT))
