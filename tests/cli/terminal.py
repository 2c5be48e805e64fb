"""The program `tutti` as a person meets it: as a child process, with pipes or with a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_=>])|\r")
TUTTI = [sys.executable, "-m", "tutti"]
NOWHERE = {"OLLAMA_HOST": "127.0.0.1:9"}  # where no server is: whatever runs on this machine is left alone


def tutti(
    *arguments: str,
    stdin: str | None = None,
    timeout: float = 90,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The program with pipes, until it ends; `stdin` None is an empty one."""
    return subprocess.run(
        [*TUTTI, *arguments],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | NOWHERE | dict(environment or {}),
        check=False,
    )


def interrupted(*arguments: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """The exit code and the errors of the program with pipes, which hears Ctrl+C when it has begun to answer."""
    program = subprocess.Popen(
        [*TUTTI, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert program.stdout is not None
    assert program.stdout.read(1)  # the answer has begun
    os.kill(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    return program.returncode, errors


def _hear_interrupts() -> None:
    """A shell has what it runs in the background ignore Ctrl+C; on a terminal of its own, a program hears it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """The program on a pseudo-terminal. What it shows is collected in `shown`, without escape sequences."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        settings = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "80"}
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*TUTTI, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=settings | NOWHERE | dict(environment or {}),
            start_new_session=True,
            preexec_fn=_hear_interrupts,
        )
        os.close(slave)
        self._raw = b""
        self.shown = ""
        self._seen = 0

    def expect(self, pattern: str, timeout: float = 60) -> str:
        """Wait until `pattern` shows after what was expected before; the text up to and with it."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.compile(pattern, re.DOTALL).search(self.shown, self._seen)
            if match:
                found = self.shown[self._seen : match.end()]
                self._seen = match.end()
                return found
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.shown[self._seen :]!r}"
            assert self._read(), f"the program ended; no {pattern!r} in {self.shown[self._seen :]!r}"

    @property
    def raw(self) -> str:
        """What was shown, with its escape sequences."""
        return self._raw.decode(errors="replace")

    def type(self, text: str) -> None:
        """Type `text`; "\\n" is the return key."""
        os.write(self.master, text.replace("\n", "\r").encode())

    def interrupt(self) -> None:
        """Ctrl+C, as a terminal sends it to a program that runs."""
        os.kill(self.process.pid, signal.SIGINT)

    def wait(self, timeout: float = 30) -> int:
        """The exit code, once the program has ended."""
        deadline = time.monotonic() + timeout
        while self._read():
            assert time.monotonic() < deadline, f"the program goes on: {self.shown[self._seen :]!r}"
        return self.process.wait(timeout)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def _read(self) -> bool:
        """Take what the program wrote; False when it has closed its terminal."""
        if not select.select([self.master], [], [], 0.1)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux's way of saying that nobody holds the other end
            return False
        self._raw += data
        self.shown = _ESCAPES.sub("", self._raw.decode(errors="replace"))
        return bool(data)
