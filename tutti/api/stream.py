"""Streams as ASGI responses: events (server-sent, or of another form), and files that are sent while they are made.

What is sent is bytes that are events, or pieces of a file, already. The first one is awaited before the status is sent,
so that a request that is refused gets its status. An error after that becomes an event; a file is broken off.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from tutti.api.errors import error_event
from tutti.errors import TuttiError

log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # tells proxies to pass every event on at once
]
_encoder = msgspec.json.Encoder()


def sse(value: object) -> bytes:
    """`value` as JSON in one event."""
    return b"data: " + _encoder.encode(value) + b"\n\n"


def named_sse(name: str, value: object) -> bytes:
    """The same in an event that has a name."""
    return b"event: " + name.encode() + b"\n" + sse(value)


class ByteStream:
    """A response that sends the pieces of a file as they come.

    When making it fails, the connection is closed without the mark of the end, so that clients notice.
    """

    def __init__(self, first: bytes, pieces: AsyncGenerator[bytes, None], content_type: str) -> None:
        self._first = first
        self._pieces = pieces
        self._content_type = content_type

    @classmethod
    async def open(cls, pieces: AsyncGenerator[bytes, None], content_type: str) -> ByteStream:
        """The stream, once its first piece is there. Raises what comes instead of it."""
        return cls(await anext(pieces, b""), pieces, content_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything. When this is cancelled, `pieces` is closed."""
        async with aclosing(self._pieces) as pieces:
            await send(_start(self._content_type))
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            try:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TuttiError as error:
                log.error("a file was broken off: %s", error)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(frozen=True, slots=True)
class Form:
    """How events are told from each other, and how an error is one of them."""

    content_type: str
    error: Callable[[TuttiError], bytes]


SSE = Form("text/event-stream; charset=utf-8", error_event)


class EventStream:
    """A response that sends `events`, bytes of the form `form`, as they come."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None], form: Form = SSE) -> None:
        self._first = first
        self._events = events
        self._form = form

    @classmethod
    async def open(cls, events: AsyncGenerator[bytes, None], form: Form = SSE) -> EventStream:
        """The stream, once its first event is there. Raises what comes instead of it."""
        return cls(await anext(events), events, form)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything. When this is cancelled, `events` is closed."""
        async with aclosing(self._events) as events:
            await send(_start(self._form.content_type))
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            try:
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except TuttiError as error:
                await send({"type": "http.response.body", "body": self._form.error(error), "more_body": True})
            except Exception:
                log.exception("a stream failed")
                ours = TuttiError("Internal error; the server's log has the details.")
                await send({"type": "http.response.body", "body": self._form.error(ours), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _start(content_type: str) -> dict[str, Any]:
    headers = [(b"content-type", content_type.encode()), *_HEADERS]
    return {"type": "http.response.start", "status": 200, "headers": headers}
