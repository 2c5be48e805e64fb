"""The exchange of chunks with another loop, in another process, that has some of the graph's stages.

What a stage emits goes there as it is, for bridges stand where their destination is. How much goes is bounded by
credits. Both loops have such a view of each other.
"""

from __future__ import annotations

from collections.abc import Callable

from tutti.engine.credits import Room, Sent, Taken
from tutti.engine.line import Line
from tutti.engine.parcels import Emitted
from tutti.graph import Chunk


class Neighbour:
    """The other loop, as this one sees it. All methods belong to this loop's thread."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._sent = Sent()
        self._taken = Taken()
        self._last: Chunk | None = None

    def send(self, chunk: Chunk) -> None:
        """What a stage here emitted; once, however many stages there follow it. Raises StageFailed if it cannot."""
        if chunk is not self._last:
            self._last = chunk
            message = Emitted.of(chunk)
            self._sent.count(chunk.stage, chunk.request)
            self.line.send(message)

    def take(self, message: Emitted) -> Chunk:
        """What a stage there emitted."""
        self._taken.count(message.stage, message.request)
        return message.chunk

    def hear(self, room: Room) -> None:
        """How much of what was sent has been taken there."""
        self._sent.hear(room)

    def full(self, request_id: str, stage: str | None = None) -> bool:
        """Whether nothing more should be sent now of a request, or of what one stage here emits for it."""
        return self._sent.full(request_id, stage)

    def settle(self, full: Callable[[str, str], bool]) -> None:
        """Tell what was taken here; `full` says of a stage and a request whether the stages behind have enough."""
        for room in self._taken.rooms(full):
            self.line.send(room)

    def forget(self, request_id: str) -> None:
        """The request is over."""
        self._sent.forget(request_id)
        self._taken.forget(request_id)
