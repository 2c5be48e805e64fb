"""The front's side of an engine: requests in, events out, in asyncio. Torch-free.

`EngineClient` keeps the streams; a subclass carries the messages: `engine.local` to a thread of this process,
`engine.process` to a child process.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from tutti.engine.wire import (
    Call,
    Cancel,
    EngineInfo,
    EngineStats,
    Events,
    Fatal,
    FromEngine,
    Reply,
    Submit,
    ToEngine,
    Traced,
)
from tutti.errors import Busy, EngineDied, InvalidRequest, TuttiError
from tutti.events import Done, ErrorValue, Event, Failed
from tutti.request import Request
from tutti.trace import Trace


class EngineClient(ABC):
    """Streams of events from an engine. All methods belong to one asyncio event loop."""

    def __init__(self) -> None:
        self._streams: dict[str, asyncio.Queue[Event]] = {}
        self._calls: dict[int, asyncio.Future[EngineStats]] = {}
        self._numbers = itertools.count()
        self.traced: Callable[[Trace], None] = lambda trace: None  # takes the trace of each request that ends
        self._ready: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def _send(self, message: ToEngine) -> None:
        """Carry a message to the engine. Raises TuttiError when there is none now."""

    @abstractmethod
    async def close(self) -> None:
        """End the engine; requests in flight fail."""

    async def ready(self) -> EngineInfo:
        """Wait until the engine serves. Raises the TuttiError that kept it from starting."""
        return await asyncio.shield(self._ready)

    @property
    def alive(self) -> bool:
        """Whether the engine is ready now."""
        return self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of a request, which must be tokenized. Failures are `Failed` events, never raised.

        Leaving the iteration early (or closing the iterator) cancels the request within one step.
        """
        if request.id in self._streams:
            error = InvalidRequest(f"a request with id {request.id!r} is being served already", param="id")
            yield Failed(request.id, ErrorValue.of(error))
            return
        stream: asyncio.Queue[Event] = asyncio.Queue()
        self._streams[request.id] = stream
        try:
            try:
                self._send(Submit(request))
            except TuttiError as error:
                del self._streams[request.id]
                yield Failed(request.id, ErrorValue.of(error))
                return
            while True:
                event = await stream.get()
                if isinstance(event, Done | Failed):
                    self._streams.pop(request.id, None)
                yield event
                if isinstance(event, Done | Failed):
                    return
        finally:
            if self._streams.pop(request.id, None) is not None:
                self._forget(request.id)

    def cancel(self, request_id: str) -> None:
        """Stop a request within one step. Its stream ends with what it cost and `Done("cancelled")`."""
        if request_id in self._streams:
            self._forget(request_id)

    async def complete(self, request: Request) -> list[Event]:
        """All events of a request."""
        async with aclosing(self.generate(request)) as events:
            return [event async for event in events]

    async def stats(self) -> EngineStats:
        """Gauges and counters of the engine."""
        return await self._call("stats")

    async def reset_prefix_cache(self) -> EngineStats:
        """Empty the prefix cache."""
        return await self._call("reset_prefix_cache")

    def _forget(self, request_id: str) -> None:
        with suppress(EngineDied, Busy):  # an engine that is gone holds nothing
            self._send(Cancel((request_id,)))

    async def _call(self, what: str) -> EngineStats:
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        try:
            self._send(Call(number, what))
            return await answer
        finally:
            self._calls.pop(number, None)

    def _receive(self, message: FromEngine) -> None:
        """Hand a message from the engine to whom it is for. Called in the event loop's thread."""
        match message:
            case Events(events):
                for event in events:
                    stream = self._streams.get(event.request)
                    if stream is not None:
                        stream.put_nowait(event)
            case Traced(trace):
                self.traced(trace)
            case Reply():
                answer = self._calls.get(message.number)
                if answer is not None and not answer.done():
                    if message.error is not None:
                        answer.set_exception(message.error.error())
                    elif message.stats is not None:
                        answer.set_result(message.stats)
            case EngineInfo():
                if self._ready.done():
                    self._ready = asyncio.get_running_loop().create_future()
                self._ready.set_result(message)
            case Fatal():
                if not self._ready.done():
                    self._ready.set_exception(message.error.error())
                    self._ready.exception()  # waiting for it is optional
                self._fail_all(message.error.error())

    def _fail_all(self, error: TuttiError) -> None:
        """Every stream and call in flight ends with `error`."""
        for request_id, stream in self._streams.items():
            stream.put_nowait(Failed(request_id, ErrorValue.of(error)))
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(error)
