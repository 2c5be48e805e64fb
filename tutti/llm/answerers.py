"""What stands behind `Omni`: the engine of one model in the caller's own thread, or a composition of several."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from tutti.engine.core import Engine
from tutti.events import Event, Failed
from tutti.gateway.composed.backend import ComposedBackend
from tutti.gateway.composed.opening import open_composition
from tutti.gateway.local import OutputDecoder
from tutti.gateway.opening import processor_of
from tutti.models.processor import Processor
from tutti.request import Request
from tutti.settings import EngineOptions

T = TypeVar("T")


class Answerer(Protocol):
    """Answers one request at a time."""

    @property
    def processor(self) -> Processor:
        """The model's way with prompts."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Who can speak."""
        ...

    @property
    def context(self) -> int:
        """The longest sequence, in tokens."""
        ...

    def events(self, request: Request) -> Iterator[Event]:
        """The events of a request, text filled in. Raises its error. Leaving the iteration cancels it."""
        ...

    def close(self) -> None:
        """End what answers."""
        ...


class Alone:
    """The engine of one model, driven by the caller's thread. Raises what loading raises."""

    def __init__(self, options: EngineOptions) -> None:
        self.engine = Engine(options, self._receive)
        self.processor = processor_of(options)
        self.voices = self.engine.info.voices
        self.context = self.engine.plan.context
        self._events: list[Event] = []

    def events(self, request: Request) -> Iterator[Event]:
        """See `Answerer.events`; what is wrong with the request is raised at once."""
        return self._stream(self.processor.prepare(request))

    def close(self) -> None:
        """See `Answerer.close`; the memory goes with the object."""
        self.engine.close()

    def _stream(self, request: Request) -> Iterator[Event]:
        decoder = OutputDecoder(self.processor, request, request.id, 0)
        loop = self.engine.loop
        loop.submit(request)
        try:
            while not decoder.ended:
                loop.run_until(lambda: bool(self._events))
                events, self._events = self._events, []
                for event in events:
                    if event.request != request.id:
                        continue
                    if isinstance(event, Failed):
                        raise event.error.error()
                    yield from decoder.decode(event)
                if decoder.stopped and not decoder.ended:
                    loop.cancel(request.id)
        finally:
            loop.cancel(request.id)

    def _receive(self, events: list[Event]) -> None:
        self._events += events


class Composed:
    """A composition, whose parts are processes; an event loop in a thread talks to them. Raises what loading raises."""

    def __init__(self, options: EngineOptions) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tutti-composition", daemon=True)
        self._thread.start()
        try:
            self.backend: ComposedBackend = self._run(open_composition(options))
        except BaseException:
            self._stop()
            raise
        self.processor: Processor = self.backend.processor
        self.voices = self.backend.info.voices
        self.context = self.backend.info.context

    def events(self, request: Request) -> Iterator[Event]:
        """See `Answerer.events`."""
        events = self.backend.generate(request)
        try:
            while (event := self._run(_next(events))) is not None:
                if isinstance(event, Failed):
                    raise event.error.error()
                yield event
        finally:
            self._run(events.aclose())

    def close(self) -> None:
        """See `Answerer.close`."""
        if self._thread.is_alive():
            self._run(self.backend.close())
            self._stop()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: AsyncGenerator[Event, None]) -> Event | None:
    with suppress(StopAsyncIteration):
        return await anext(events)
    return None
