"""One HTTP call: read the body within a limit, check the key, answer, and notice when the client leaves.

The answer (the handler's work and the sending of what it returns) runs as a task beside one that waits for the
client to disconnect; whichever ends first ends the other. So whatever a handler does, streaming or not, stops when
nobody listens any more.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tutti.api.errors import error_response
from tutti.errors import PayloadTooLarge, TuttiError
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import ANYONE, Caller
from tutti.gateway.lease import Lease, Wants
from tutti.hub.store import Store
from tutti.media.fetch import FetchLimits
from tutti.settings import format_size

MAX_BODY = 64_000_000  # bytes
_PLAIN = re.compile(r"[\w.:-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets. `path` holds the values of the path's placeholders, `query` those behind its question mark;
    `fetching` limits what URLs may cost.

    Where the endpoint streams its body, `body` is empty: `chunks` are it, as it comes, `length` bytes if the client
    says (else 0); they raise ClientGone. `store` is where models are kept, None where the server has no such place.
    `leases` are given back when the answer has been sent, or is not wanted any more.
    """

    gateway: Gateway
    caller: Caller
    path: Mapping[str, str]
    body: bytes
    fetching: FetchLimits
    chunks: AsyncGenerator[bytes, None]
    length: int = 0
    content_type: str = ""
    store: Store | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    leases: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def lease(self, name: str | None, wants: Wants | None = None) -> Lease:
        """The model called `name`, in memory until the call ends. Raises as `Gateway.lease` does."""
        return await self.leases.enter_async_context(self.gateway.lease(name or "", wants))


Handler = Callable[[Call], Awaitable[ASGIApp]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a protocol's clients send their key and are told an error, which `refuse` makes of it and the call's id.

    `id_headers` are the headers that name the call in every answer.
    """

    key: Callable[[Scope], str | None]
    refuse: Callable[[TuttiError, str], ASGIApp]
    id_headers: tuple[bytes, ...] = (b"x-request-id",)


class ClientGone(Exception):
    """The client left before it had sent everything."""


class Endpoint:
    """An ASGI endpoint around a handler. `guarded` ones ask for an API key, where the gateway has any."""

    def __init__(
        self,
        gateway: Gateway,
        handler: Handler,
        *,
        guarded: bool = True,
        max_body: int = MAX_BODY,
        fetching: FetchLimits | None = None,
        dialect: Dialect | None = None,
        store: Store | None = None,
        streamed: bool = False,
    ) -> None:
        """`dialect` is of the API that the path belongs to (default: OpenAI's).

        `streamed`: the handler reads the body itself, of whatever size.
        """
        self._gateway = gateway
        self._handler = handler
        self._guarded = guarded
        self._max_body = max_body
        self._fetching = fetching or FetchLimits()
        self._dialect = dialect or OPENAI
        self._store = store
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        chunks = _body(receive)
        name = _call_id(scope)
        send = _naming(send, name, self._dialect.id_headers)
        try:
            try:
                caller = self._gateway.authorize(self._dialect.key(scope)) if self._guarded else ANYONE
                body = b"" if self._streamed else await _join(chunks, self._max_body)
            except TuttiError as error:
                await _discard(chunks, self._max_body)
                await self._dialect.refuse(error, name)(scope, receive, send)
                return
        except ClientGone:
            return
        parent = header(scope, b"traceparent")
        caller = replace(caller, call=name, traceparent=None if parent is None else parent.decode("latin-1"))
        kind = header(scope, b"content-type") or b""
        length = header(scope, b"content-length") or b""
        call = Call(
            self._gateway,
            caller,
            scope.get("path_params", {}),
            body,
            self._fetching,
            chunks,
            int(length) if length.isdigit() else 0,
            kind.decode("latin-1"),
            self._store,
            dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))),
        )
        if self._streamed:  # who reads the body notices that the client left
            with suppress(ClientGone):
                await self._answer(call, scope, receive, send)
            return
        await _until_disconnect(self._answer(call, scope, receive, send), receive)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        async with call.leases:
            try:
                response = await self._handler(call)
            except TuttiError as error:
                response = self._dialect.refuse(error, call.caller.call)
            await response(scope, receive, send)


def _call_id(scope: Scope) -> str:
    """The caller's own `x-request-id`, if it is a plain word, or a new one."""
    given = (header(scope, b"x-request-id") or b"").decode("latin-1")
    return given if _PLAIN.fullmatch(given) else uuid.uuid4().hex


def _naming(send: Send, name: str, headers: tuple[bytes, ...]) -> Send:
    """`send` with `name` in these headers of every answer."""
    naming = [(header, name.encode("latin-1")) for header in headers]

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *naming]}
        await send(message)

    return named


async def _until_disconnect(answer: Awaitable[None], receive: Receive) -> None:
    """Wait for `answer`; cancel it, and see it clean up, when the client leaves or the server stops."""
    work = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
    if not work.cancelled():
        work.result()  # raises what the handler did not foresee


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises ClientGone."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _join(chunks: AsyncGenerator[bytes, None], limit: int) -> bytes:
    """The whole body. Raises PayloadTooLarge."""
    found: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"The body is too large: this server takes at most {format_size(limit)}.")
        found.append(chunk)
    return b"".join(found)


async def _discard(chunks: AsyncGenerator[bytes, None], limit: int) -> None:
    """Let a client who is refused finish sending, within reason: cut off before, it would see no answer."""
    async for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            return


def bearer(scope: Scope) -> str | None:
    """The key of `Authorization: Bearer <key>`."""
    value = header(scope, b"authorization")
    if value is None:
        return None
    scheme, _, key = value.decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, which is in lower case."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((value for key, value in headers if key == name), None)


OPENAI = Dialect(bearer, lambda error, _: error_response(error))
