"""The engine in a child process, restarted when it dies. Torch-free.

When the child dies, requests in flight fail with `EngineDied`, the front stays up, and a new child is started; what
comes meanwhile is told to try again. A child that dies before it was ever ready is not restarted: its error is final.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from asyncio.subprocess import Process

import msgspec

from tutti.engine import frames
from tutti.engine.client import EngineClient
from tutti.engine.wire import EngineInfo, Fatal, FromEngine, Shutdown, ToEngine
from tutti.errors import Busy, EngineDied
from tutti.events import ErrorValue
from tutti.settings import EngineOptions

log = logging.getLogger(__name__)

_MAX_RESTARTS = 5  # in a row, without a request served in between
_GRACE = 5.0  # seconds a child has to end by itself


class ProcessEngine(EngineClient):
    """An engine whose loop is a child process. Starts at once; `await ready()` tells when it serves."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__()
        self.options = options
        self.restarts = 0
        self._writer: asyncio.StreamWriter | None = None
        self._child: Process | None = None
        self._closing = False
        self._ever_ready = False
        self._main = asyncio.get_running_loop().create_task(self._keep_running(), name="engine-process")

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.pid if self._child is not None else None

    def _send(self, message: ToEngine) -> None:
        if self._closing:
            raise EngineDied("the engine was closed")
        if self._writer is None or not self.alive:
            raise Busy("the engine is starting; try again in a moment", retry_after=2.0)
        self._writer.write(frames.pack(message))

    async def close(self) -> None:
        """See `EngineClient.close`."""
        if self._closing:
            return
        if self._writer is not None:
            self._writer.write(frames.pack(Shutdown()))
        self._closing = True
        if self._child is not None:
            try:
                await asyncio.wait_for(self._child.wait(), _GRACE)
            except TimeoutError:
                self._child.kill()
        self._main.cancel()
        await asyncio.gather(self._main, return_exceptions=True)
        self._fail_all(EngineDied("the engine was closed"))

    async def _keep_running(self) -> None:
        failures = 0  # starts in a row that came to nothing
        while not self._closing:
            was_ready = await self._run_child()
            if self._closing or self._child is None:
                return
            code = await self._child.wait()
            if not self._ever_ready:
                message = (
                    f"the engine process ended (exit code {code}) before it was ready; see its log above"
                )
                self._receive(Fatal(ErrorValue.of(EngineDied(message))))
                return
            self._fail_all(EngineDied(f"the engine process ended (exit code {code}); it is being restarted"))
            failures = 0 if was_ready else failures + 1
            if failures > _MAX_RESTARTS:
                log.error("the engine failed to start %d times in a row; it is not started again", failures)
                return
            log.error("the engine process ended (exit code %s); starting it again", code)
            self.restarts += 1
            await asyncio.sleep(min(0.1 * 2**failures, 5.0))

    async def _run_child(self) -> bool:
        """Start a child and receive what it says until it ends; whether it became ready."""
        ours, theirs = socket.socketpair()
        descriptor = theirs.fileno()
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tutti.engine.worker", str(descriptor), pass_fds=(descriptor,)
        )
        theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=2**20)
        self._writer.write(frames.pack(self.options))
        decoder = msgspec.msgpack.Decoder(FromEngine)
        was_ready = False
        try:
            while True:
                message = await frames.read(reader, decoder)
                was_ready = was_ready or isinstance(message, EngineInfo)
                self._receive(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            return was_ready
        finally:
            if was_ready:
                self._ever_ready = True
                self._ready = (
                    asyncio.get_running_loop().create_future()
                )  # nobody is served until the next is ready
            self._writer.close()
            self._writer = None
