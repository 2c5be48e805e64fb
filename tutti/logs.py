"""The one logging set-up: lines for people on a terminal, one JSON object a line by flag.

A module logs with `logging.getLogger(__name__)`; a program (a command, the engine process) calls `configure` once.
Logs go to standard error, so that standard output carries answers alone. What is logged is for operators: errors of
a request belong to its caller and appear here at level debug.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import IO, Any

import msgspec

from tutti.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """`14:03:22 engine: message`; the level is named (and coloured on a terminal) from warning on."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One line, then the traceback if there is one."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        if level and self.colour:
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
        line = f"{clock} {record.name.removeprefix('tutti.')}: {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (seconds since the epoch), level, logger, message, then the record's extras."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as text, without a newline in it."""
        entry: dict[str, Any] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


def configure(level: str = "info", format: str = "text", stream: IO[str] | None = None) -> None:
    """Send every log of this process to `stream` (standard error by default). Later calls replace earlier ones.

    `level` is one of LEVELS, `format` one of FORMATS. Raises ConfigError on any other.
    """
    if level not in LEVELS:
        raise ConfigError(f"log level {level!r}: choose one of {', '.join(LEVELS)}", param="log_level")
    if format not in FORMATS:
        raise ConfigError(f"log format {format!r}: choose one of {', '.join(FORMATS)}", param="log_format")
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter(colour=stream.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # what libraries say matters from warning on
    logging.getLogger("tutti").setLevel(level.upper())
