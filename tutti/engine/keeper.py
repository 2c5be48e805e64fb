"""Processes beside the engine's: how they are started, listened to, and started again when they die.

A process is one of our modules, at the other end of a line. What is started with the engine and dies before it was ever
ready is not started again: its error is the engine's.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from tutti.engine.line import Line
from tutti.engine.parcels import Message
from tutti.engine.wire import Fatal
from tutti.errors import TuttiError

log = logging.getLogger(__name__)

GRACE = 5.0  # seconds that a process has to end by itself
_MAX_RESTARTS = 5  # in a row, without becoming ready in between


class Beside:
    """A process that runs a `module`, and our end of the line to it; `first` is what it is told at once."""

    def __init__(self, module: str, first: Message) -> None:
        """Raises OSError when there can be no process."""
        self.line, theirs = Line.make()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, theirs)], pass_fds=theirs
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self.line.send(first)

    def listen(self, name: str, take: Callable[[Message], None]) -> TuttiError | None:
        """Hand in what comes until the line ends; its last words, if there are any."""
        fatal = None
        while (message := self.line.receive()) is not None:
            if isinstance(message, Fatal):
                fatal = message.error.error()
                log.error("%s: %s", name, fatal)
            else:
                take(message)
        return fatal

    def ended(self) -> str:
        """How the process ended, whose line has; it is made to if it does not by itself."""
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class Keeper(ABC):
    """A thread that keeps something running which has processes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.restarts = 0
        self._closing = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)

    @abstractmethod
    def _run(self) -> tuple[str, bool, TuttiError]:
        """Run it until it ends: how it did, whether it became ready, and why it did not."""

    @abstractmethod
    def _never(self, error: TuttiError) -> bool:
        """It ended. If it was the first time, and it never became ready: tell who waits for it why, and return True."""

    @abstractmethod
    def _lost(self, how: str) -> None:
        """It ended, and is to be started again."""

    def _keep(self) -> None:
        failures = 0  # starts in a row that came to nothing
        while failures <= _MAX_RESTARTS:
            how, was_ready, error = self._run()
            if self._closing.is_set() or self._never(error):
                return
            self._lost(how)
            failures = 0 if was_ready else failures + 1
            log.error("%s ended (%s); starting it again", self.name, how)
            self.restarts += 1
            self._closing.wait(min(0.1 * 2**failures, 5.0))
        log.error("%s failed to start %d times in a row; it is not started again", self.name, failures)
        self._given_up = True
