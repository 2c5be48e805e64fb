"""The engine in a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import threading

from tutti.engine.client import EngineClient
from tutti.engine.wire import Events, Fatal, FromEngine, Shutdown, ToEngine, Traced
from tutti.errors import EngineDied, TuttiError
from tutti.events import ErrorValue
from tutti.settings import EngineOptions, calm_threads, read_settings

log = logging.getLogger(__name__)


class LocalEngine(EngineClient):
    """An engine whose loop is a thread here. Starts loading at once; `await ready()` tells when it serves."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._inbox: list[ToEngine] = []
        self._send_now = self._inbox.append  # until the engine's own inbox is there
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._main, args=(options,), name="tutti-engine", daemon=True)
        self._thread.start()

    def _send(self, message: ToEngine) -> None:
        if self._closed or not self._thread.is_alive():
            raise EngineDied("the engine was closed")
        with self._lock:
            self._send_now(message)

    async def close(self) -> None:
        """See `EngineClient.close`."""
        if not self._closed:
            if self._thread.is_alive():
                self._send(Shutdown())
            self._closed = True
            await asyncio.to_thread(self._thread.join)
            self._fail_all(EngineDied("the engine was closed"))

    def _main(self, options: EngineOptions) -> None:
        try:
            calm_threads()
            from tutti.engine.core import Engine

            engine = Engine(
                options,
                lambda events: self._post(Events(tuple(events))),
                self._post,
                (lambda trace: self._post(Traced(trace))) if read_settings().traces else None,
            )
            with self._lock:
                for message in self._inbox:
                    engine.loop.inbox.put(message)
                self._send_now = engine.loop.inbox.put
            self._post(engine.info)
            try:
                engine.loop.run()
            finally:
                engine.close()
        except TuttiError as error:
            self._post(Fatal(ErrorValue.of(error)))
        except Exception as error:  # the thread's last word: the front must hear of it
            log.exception("the engine ended")
            self._post(Fatal(ErrorValue("EngineDied", f"the engine ended: {type(error).__name__}: {error}")))

    def _post(self, message: FromEngine) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._receive, message)
