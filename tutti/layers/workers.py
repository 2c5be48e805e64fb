"""Daemon threads for calls that cannot be interrupted and may never return.

Python cannot stop a thread that is inside a C++ function. A call that takes too long is therefore abandoned: its
future fails, another thread takes its place, and the thread ends whenever the call returns. How many may be abandoned
at once is limited. Daemon threads do not hold up the end of the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread, Timer
from typing import Generic, TypeVar

from tutti.errors import Busy

T = TypeVar("T")


class Job(Generic[T]):
    """A call given to a `WorkerPool`, and the future of its result."""

    def __init__(self, pool: WorkerPool, call: Callable[[], T], limit: float | None) -> None:
        self.future: Future[T] = Future()
        self._pool = pool
        self._call = call
        self._limit = limit  # seconds, from when the call begins

    def abandon(self) -> bool:
        """Stop waiting for the call: the future fails with TimeoutError and the thread's place is free again.

        False, and nothing is done, if the call has ended.
        """
        if not self._pool.replace(self):
            return False
        self.future.set_exception(TimeoutError())
        return True

    def run(self) -> bool:
        """Make the call; whether it was waited for to its end."""
        timer = None if self._limit is None else Timer(self._limit, self.abandon)
        if timer is not None:
            timer.daemon = True
            timer.start()
        result: T | None = None
        error: BaseException | None = None
        try:
            result = self._call()
        except BaseException as raised:  # noqa: BLE001  (it goes to whoever waits for the future)
            error = raised
        if timer is not None:
            timer.cancel()
        if not self._pool.finish(self):
            return False
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)  # type: ignore[arg-type]
        return True


class WorkerPool:
    """Up to `workers` threads, which live only while there is something to do, and up to `abandoned` beside them."""

    def __init__(self, name: str, workers: int, abandoned: int) -> None:
        self._name = name
        self._workers = workers
        self._abandoned_limit = abandoned
        self._lock = Lock()
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._abandoned: set[Job] = set()

    def submit(self, call: Callable[[], T], limit: float | None = None) -> Job[T]:
        """Make `call` in a thread, for at most `limit` seconds. Raises Busy when too many calls are abandoned."""
        job = Job(self, call, limit)
        with self._lock:
            if len(self._abandoned) >= self._abandoned_limit:
                raise Busy(
                    f"{self._name}: {len(self._abandoned)} calls that took too long have not ended yet"
                )
            self._waiting.append(job)
            self._start()
        return job

    def replace(self, job: Job) -> bool:
        """Give the place of the running `job` to another; False if it is not running any more."""
        with self._lock:
            if job not in self._running:
                return False
            self._running.remove(job)
            self._abandoned.add(job)
            self._start()
            return True

    def finish(self, job: Job) -> bool:
        """Book the end of `job`'s call; False if it was abandoned before."""
        with self._lock:
            if job in self._abandoned:
                self._abandoned.remove(job)
                return False
            self._running.remove(job)
            return True

    def _start(self) -> None:
        """Start a thread for the next waiting job if there is room; the lock is held."""
        if self._waiting and len(self._running) < self._workers:
            job = self._waiting.popleft()
            self._running.add(job)
            Thread(target=self._drain, args=(job,), name=self._name, daemon=True).start()

    def _drain(self, job: Job) -> None:
        """A thread's life: `job`, then whatever waits."""
        while job.run():
            with self._lock:
                if not self._waiting or len(self._running) >= self._workers:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
