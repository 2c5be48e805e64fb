"""The progress of pulls, pushes and creations, on standard error.

On a terminal: a line for each status and a bar for each blob. Elsewhere: one line for each status, so that a log stays
readable.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from tutti.cli.wording import size_of
from tutti.hub.progress import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_WINDOW = 10.0  # seconds over which the speed is measured
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class _Bar:
    """One blob: how far it is, and how fast lately."""

    def __init__(self, progress: Progress) -> None:
        self.last = progress
        self._marks = [(time.monotonic(), progress.completed)]

    def update(self, progress: Progress) -> None:
        self.last = progress
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] < _WINDOW]
        self._marks.append((now, progress.completed))

    def line(self, width: int) -> str:
        """`pulling 8eeb52dfb3bb:  42% ▕███   ▏ 1.2 GB/2.0 GB   50 MB/s     16s`"""
        total, completed = self.last.total, self.last.completed
        share = completed / total if total else 1.0
        before = f"{self.last.status}: {int(share * 100):3d}% "
        after = self._after(total, completed)
        room = max(0, width - len(before) - len(after) - 3)
        bar = ("█" * int(room * share)).ljust(room)
        return f"{before}▕{bar}▏{after}"

    def _after(self, total: int, completed: int) -> str:
        if completed >= total:
            return f" {size_of(total):>7}"
        (begin, at), (end, there) = self._marks[0], self._marks[-1]
        speed = (there - at) / (end - begin) if end > begin else 0.0
        done = f" {size_of(completed)}/{size_of(total)}"
        if speed <= 0:
            return done
        return f"{done}  {size_of(int(speed)):>7}/s  {_time(int((total - completed) / speed)):>6}"


class Bars:
    """Shows what it is told until the context ends."""

    def __init__(self) -> None:
        self._lines: dict[str, _Bar | str] = {}
        self._live: Live | None = None
        self._width = 80
        self._begin = time.monotonic()

    def __enter__(self) -> Bars:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, highlight=False)
            self._width = max(20, console.width)
            self._live = Live(console=console, get_renderable=self._render, refresh_per_second=12)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show this, too."""
        known = self._lines.get(progress.status)
        if isinstance(known, _Bar):
            known.update(progress)
        elif known is None:
            self._lines[progress.status] = _Bar(progress) if progress.digest else progress.status
            if self._live is None:
                size = f" ({size_of(progress.total)})" if progress.digest else ""
                print(f"{progress.status}{size}", file=sys.stderr, flush=True)

    def _render(self) -> RenderableType:
        from rich.text import Text

        lines = [line.line(self._width) if isinstance(line, _Bar) else line for line in self._lines.values()]
        if lines and isinstance(list(self._lines.values())[-1], str) and lines[-1] != "success":
            turn = int((time.monotonic() - self._begin) * 10) % len(_SPINNER)
            lines[-1] += f" {_SPINNER[turn]}"
        return Text("\n".join(lines), no_wrap=True, overflow="crop")


def _time(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
