"""How a process that is started by another one begins: the engine's, a device's, a rank's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tutti.logs import configure
from tutti.settings import calm_threads, read_settings

if TYPE_CHECKING:
    from tutti.engine.line import Line


def begin() -> None:
    """Logs and threads as the settings say.

    Ctrl+C and the like reach the whole group: the front decides what they mean, and requests under way still need this
    process.
    """
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    calm_threads()
    settings = read_settings()
    configure(settings.log_level, settings.log_format)


def open_line(descriptors: tuple[int, ...]) -> Line:
    """`begin`, and the line to who started this process, whose ends are `descriptors`."""
    begin()
    from tutti.engine.line import Line  # torch, from here on

    return Line.of_descriptors(descriptors)
