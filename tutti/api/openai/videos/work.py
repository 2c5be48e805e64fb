"""Has the jobs done: each is a task that leases its model, gives it the request, and writes the frames as they come.

The engine gives jobs their turns, as it does all requests. What a server leaves undone when it ends, however it ends,
is done by the next one that has the model.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tutti.api.errors import said, unforeseen
from tutti.api.openai.videos.store import Job, JobStore
from tutti.errors import Busy, ModelNotFound, QueueFull, StoreError, TuttiError
from tutti.events import Failed, ImageDone, Progress, VideoDelta
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import Caller
from tutti.request import Request

if TYPE_CHECKING:
    from tutti.media.film import FilmWriter

log = logging.getLogger(__name__)

_AT_ONCE = 16  # jobs that the engine has at a time
_MOST = 1000  # jobs that may wait


class VideoWork:
    """The jobs of one server."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        """Nothing is read or written in `folder` before somebody asks for a video, unless there are jobs in it."""
        self._gateway = gateway
        self._folder = folder
        self._store: JobStore | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.sketches: dict[str, bytes] = {}  # PNG files, the latest of each job that is being done here

    @property
    def store(self) -> JobStore:
        """The jobs on the disk. Raises StoreError where there is no place for them."""
        if self._store is None:
            self._store = JobStore(self._folder)
        return self._store

    async def resume(self) -> None:
        """Go on with the jobs that dead servers left, of the models that are here."""
        if not JobStore.exists(self._folder):
            return
        try:
            orphans = self.store.orphans()
        except StoreError as error:  # other doors are open all the same
            log.warning("videos: %s", error.message)
            return
        for job in orphans:
            try:
                if await self._has(job):
                    self._take(job)
            except TuttiError as error:
                log.warning("video %s: %s", job.id, error.message)

    async def close(self) -> None:
        """Stop working."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            self._store.close()

    def begin(self, caller: str | None, request: Request) -> Job:
        """A new job for `request`, which is complete. Raises QueueFull, StoreError."""
        if len(self._tasks) >= _MOST:
            raise QueueFull(f"{_MOST:,} videos wait already; try again later.", retry_after=60)
        job = self.store.add(caller, request)
        self._start(job)
        return job

    async def look(self, caller: str | None, id: str) -> Job:
        """A job as it is now; one that a dead server left is taken, or has failed. Raises NotFound, StoreError."""
        job = self.store.get(caller, id)
        if (
            job.ended
            or not job.readable
            or id in self._tasks
            or id not in {one.id for one in self.store.orphans()}
        ):
            return job
        here = await self._has(job)
        self._take(job, begin=here)
        if not here:
            name = _model(job)
            self.store.fail(
                id, "server_died", f"The server that made this video ended, and this one has no model {name}."
            )
        return self.store.get(caller, id)

    async def delete(self, caller: str | None, id: str) -> None:
        """Stop working on it, and forget it. Raises NotFound, StoreError."""
        self.store.get(caller, id)
        if id in self._tasks:
            task = self._tasks[id]
            task.cancel()
            await asyncio.wait((task,))
        self.store.delete(id)

    async def _has(self, job: Job) -> bool:
        """Whether this server has the job's model."""
        try:
            await self._gateway.card(_model(job))
        except ModelNotFound:
            return False
        return True

    def _take(self, job: Job, *, begin: bool = True) -> None:
        mine = self.store.adopt(job)
        if mine is not None and begin:
            self._start(mine)

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(self._run(job), name=job.id)
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _run(self, job: Job) -> None:
        """Do one job, however long it has to wait."""
        try:
            async with self._places:
                while (patience := await self._try(job)) is not None:
                    await asyncio.sleep(patience)
        except TuttiError as error:
            self._fail(job, error)
        except Exception as error:
            log.exception("video %s", job.id)
            self._fail(job, unforeseen(error))

    def _fail(self, job: Job, error: TuttiError) -> None:
        with suppress(StoreError):  # then there is nothing to write it to
            self.store.fail(job.id, error.code, said(error))

    async def _try(self, job: Job) -> float | None:
        """Do a job; None when it is done, else how many seconds to wait since others have all places."""
        try:
            await self._film(job)
        except Busy as error:
            return error.retry_after
        return None

    async def _film(self, job: Job) -> None:
        """Have the model film, and write what comes. Raises what ends it early."""
        request = await asyncio.to_thread(self.store.request, job)
        caller = Caller(job.caller or None)
        output = _Output(self.store.part(job.id))
        try:
            async with (
                self._gateway.lease(request.model) as lease,
                aclosing(lease.generate(request, caller)) as events,
            ):
                async for event in events:
                    match event:
                        case Progress():
                            if not self.store.progress(job.id, min(99, 100 * event.done // event.total)):
                                return  # it was deleted
                        case ImageDone():
                            self.sketches[job.id] = event.png
                        case VideoDelta():
                            await asyncio.to_thread(output.push, event)
                        case Failed():
                            raise event.error.error()
            await asyncio.to_thread(output.finish)
            self.store.complete(job.id)
        finally:
            self.sketches.pop(job.id, None)
            output.discard()


class _Output:
    """The file of a video while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: FilmWriter | None = None

    def push(self, piece: VideoDelta) -> None:
        """Take some frames."""
        from tutti.media.film import FilmWriter, joined

        if self._writer is None:
            self._writer = FilmWriter(self._path, piece.rate, piece.note)
        self._writer.push(joined([piece]))

    def finish(self) -> None:
        """The file is whole."""
        assert self._writer is not None
        self._writer.finish()
        self._writer = None

    def discard(self) -> None:
        """Leave nothing of a file that is not whole; of one that is, nothing is at its place any more."""
        self._path.unlink(missing_ok=True)


def _model(job: Job) -> str:
    return job.read().model
