"""What waits to be sent to a client, bounded: one that reads slowly pauses its answers, one that stalls loses them.

Events are encoded when they are put here, so that what waits is counted in bytes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tutti.api.realtime.limits import RealtimeLimits

_encoder = msgspec.json.Encoder()


class TooSlow(Exception):
    """The client does not take what is sent to it."""


class Outbox:
    """Events on their way to one client."""

    def __init__(self, limits: RealtimeLimits) -> None:
        self.sent = 0.0  # when something was last taken, in the event loop's time
        self._limits = limits
        self._waiting: deque[str] = deque()
        self._size = 0
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, kind: str, **fields: Any) -> None:
        """Send an event of this type. Never waits."""
        event = {"type": kind, "event_id": f"event_{uuid.uuid4().hex[:20]}", **fields}
        text = _encoder.encode(event).decode()
        self._waiting.append(text)
        self._count(len(text))
        self._something.set()

    async def room(self) -> None:
        """Wait until the client has taken most of what it was sent: before more of an answer is made ready."""
        await self._room.wait()

    async def deliver(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what is put here, until cancelled. Raises TooSlow."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._something.wait()
            while self._waiting:
                if self._size > self._limits.outgoing:
                    raise TooSlow
                text = self._waiting.popleft()
                try:
                    async with asyncio.timeout(self._limits.stall):
                        await send(text)
                except TimeoutError:
                    raise TooSlow from None
                self._count(-len(text))
                self.sent = clock()
            self._something.clear()

    def _count(self, change: int) -> None:
        self._size += change
        if self._size > self._limits.calm:
            self._room.clear()
        else:
            self._room.set()
