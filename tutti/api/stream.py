"""Server-sent events as an ASGI response.

What is sent is bytes that are events already. The first one is awaited before the status is sent, so that a request
that is refused gets its status; an error after that becomes an event.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.types import Receive, Scope, Send

from tutti.api.errors import error_event
from tutti.errors import TuttiError

log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # tells proxies to pass every event on at once
]
_encoder = msgspec.json.Encoder()


def sse(value: object) -> bytes:
    """`value` as JSON in one event."""
    return b"data: " + _encoder.encode(value) + b"\n\n"


class EventStream:
    """A response that sends `events` as they come."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None]) -> None:
        self._first = first
        self._events = events

    @classmethod
    async def open(cls, events: AsyncGenerator[bytes, None]) -> EventStream:
        """The stream, once its first event is there. Raises what comes instead of it."""
        return cls(await anext(events), events)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything. When this is cancelled, `events` is closed."""
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            try:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except TuttiError as error:
                await send({"type": "http.response.body", "body": error_event(error), "more_body": True})
            except Exception:
                log.exception("a stream failed")
                ours = TuttiError("Internal error; the server's log has the details.")
                await send({"type": "http.response.body", "body": error_event(ours), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
