"""A sign of life on a terminal while media are read and encoded: what it is, how large, and for how long already.

It shows after a while only, leaves no trace, and is absent where standard error is no terminal.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tutti.settings import format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_PATIENCE = 1.0  # seconds in which nobody misses a sign


class Waiting:
    """The line on the terminal. Belongs to the running event loop."""

    def __init__(self, console: Console, text: str, patience: float = _PATIENCE) -> None:
        self._console = console
        self._text = text
        self._shown: Progress | None = None
        self._later = asyncio.get_running_loop().call_later(patience, self._show)

    def end(self) -> None:
        """There is something else to see now."""
        self._later.cancel()
        if self._shown is not None:
            self._shown.stop()
            self._shown = None

    def _show(self) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._shown = Progress(*columns, console=self._console, transient=True)
        self._shown.add_task(self._text, total=None)
        self._shown.start()


@contextmanager
def waiting(messages: Iterable[Mapping[str, Any]]) -> Iterator[Waiting | None]:
    """The sign for the media of `messages`; None where there are none, or nobody looks."""
    names = described(messages)
    if not names or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    sign = Waiting(Console(stderr=True, highlight=False), f"reading {names}")
    try:
        yield sign
    finally:
        sign.end()


def described(messages: Iterable[Mapping[str, Any]]) -> str:
    """The files that `messages` show the model, and their size; empty without any."""
    parts = [
        part
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if "media" in part
    ]
    if not parts:
        return ""
    what = ", ".join(str(part["name"]) for part in parts) if len(parts) <= 3 else f"{len(parts)} files"
    return f"{what} ({format_size(sum(len(part['media'].data) for part in parts))})"
