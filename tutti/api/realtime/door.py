"""`/v1/realtime`: who may open a session, the socket of one, and its end.

Everything that needs NumPy is imported when the first session opens: who never speaks to the server never waits for
it. A session that is refused gets an HTTP answer, with the status that fits, instead of a socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from tutti.api.endpoint import bearer, header
from tutti.api.errors import error_response, said
from tutti.api.realtime.limits import RealtimeLimits
from tutti.api.realtime.outbox import Outbox, TooSlow
from tutti.errors import Busy, TuttiError
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import Caller
from tutti.media.fetch import FetchLimits

if TYPE_CHECKING:
    from tutti.api.realtime.session import Session

log = logging.getLogger(__name__)

PROTOCOL = "realtime"
_KEY = "openai-insecure-api-key."  # a browser cannot set headers, so its key is in the name of a protocol
_NORMAL, _POLICY, _INTERNAL, _GOING = 1000, 1008, 1011, 1001
_REASON = 100  # characters of the reason that a socket is closed with; the protocol has room for 123 bytes
_FAREWELL = 2.0  # seconds that closing a socket may take


class RealtimeDoor:
    """The ASGI endpoint."""

    def __init__(
        self, gateway: Gateway, limits: RealtimeLimits | None = None, fetching: FetchLimits | None = None
    ) -> None:
        self._gateway = gateway
        self._limits = limits or RealtimeLimits()
        self._fetching = fetching or FetchLimits()
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from its beginning to its end."""
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        query = {
            name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()
        }
        try:
            caller = self._gateway.authorize(bearer(scope) or _key(scope["subprotocols"]))
            parent = header(scope, b"traceparent")
            caller = replace(caller, traceparent=None if parent is None else parent.decode("latin-1"))
            model = (await self._gateway.card(query.get("model", ""))).name
            if self._open >= self._limits.sessions:
                raise Busy(f"{self._open} sessions are open, and that is the most.", retry_after=10.0)
        except TuttiError as error:
            await error_response(error)(scope, receive, send)
            return
        offered = PROTOCOL in scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL if offered else None})
        self._open += 1
        try:
            await self._serve(caller, model, query.get("intent") == "transcription", receive, send)
        finally:
            self._open -= 1

    async def _serve(
        self, caller: Caller, model: str, transcribes: bool, receive: Receive, send: Send
    ) -> None:
        from tutti.api.realtime.session import Session

        try:
            async with self._gateway.lease(model) as lease:
                opened, processor = lease.model, lease.backend.processor
        except TuttiError as error:  # it is there, but cannot be loaded
            log.error("a session could not begin: %s", error)
            await _close(send, _INTERNAL, said(error).partition("\n")[0][:_REASON])
            return
        outbox = Outbox(self._limits)
        session = Session(
            self._gateway,
            caller,
            outbox,
            self._limits,
            self._fetching,
            model=opened,
            processor=processor,
            transcribes=transcribes,
        )

        async def send_text(text: str) -> None:
            await send({"type": "websocket.send", "text": text})

        hearing = asyncio.create_task(self._hear(session, outbox, receive))
        telling = asyncio.create_task(outbox.deliver(send_text))
        try:
            await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (hearing, telling):
                task.cancel()
            ends = await asyncio.gather(hearing, telling, return_exceptions=True)
            await session.close()
        code, reason = _farewell(ends)
        if code is not None:
            await _close(send, code, reason)

    async def _hear(self, session: Session, outbox: Outbox, receive: Receive) -> str:
        """Follow what the client sends. The reason to hang up, or "" when the client has."""
        clock = asyncio.get_running_loop().time
        heard = clock()
        while True:
            try:
                async with asyncio.timeout_at(max(heard, outbox.sent) + self._limits.idle):
                    message = await receive()
            except TimeoutError:
                if session.busy or clock() < outbox.sent + self._limits.idle:
                    heard = clock()
                    continue
                return f"nothing was said for {self._limits.idle:.0f} seconds"
            if message["type"] == "websocket.disconnect":
                return ""
            heard = clock()
            text = message.get("text")
            await session.follow(message.get("bytes") or b"" if text is None else text)


def _farewell(ends: Sequence[str | BaseException | None]) -> tuple[int | None, str]:
    """How the socket is closed, by how hearing and telling ended; None: it is closed already."""
    heard, told = ends
    if isinstance(told, TooSlow):
        return _POLICY, "the client takes too long to read what it is sent"
    if isinstance(told, OSError):  # the client was gone when something was sent
        return None, ""
    for end in ends:
        if isinstance(end, Exception):
            log.error("a session failed", exc_info=end)
            return _INTERNAL, "internal error; the server's log has the details"
    if isinstance(heard, str):
        return (_NORMAL, heard) if heard else (None, "")
    return _GOING, "the server is going away"


async def _close(send: Send, code: int, reason: str) -> None:
    """Close the socket, if the client still listens."""
    try:
        async with asyncio.timeout(_FAREWELL):
            await send({"type": "websocket.close", "code": code, "reason": reason})
    except (TimeoutError, OSError):
        log.debug("a client was gone before its socket was closed")


def _key(protocols: list[str]) -> str | None:
    return next((name.removeprefix(_KEY) for name in protocols if name.startswith(_KEY)), None)
