"""Durations as Ollama's clients write them: Go's (`1h30m`, `250ms`, `-1m`) or a number of seconds."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from tutti.errors import InvalidRequest

FOREVER = math.inf  # what every negative duration means

_UNITS = {  # seconds
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_LONGEST = Fraction(2**63 - 1, 10**9)  # seconds; Go counts nanoseconds in 64 bits
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
_MOST = 200  # characters


def seconds(value: object) -> float:
    """The duration in seconds, `FOREVER` for a negative one. Raises InvalidRequest in Go's words."""
    if isinstance(value, str):
        found = float(parse(value))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"Unsupported type: '{type(value).__name__}'", param="keep_alive")
    else:
        found = float(value)
    return FOREVER if found < 0 else found


def parse(text: str) -> Fraction:
    """The seconds of a Go duration, negative ones as they are. Raises InvalidRequest in Go's words."""
    shown = '"' + text[:_MOST].replace("\\", "\\\\").replace('"', '\\"') + '"'
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return Fraction(0)
    if not rest or len(text) > _MOST:
        raise _bad(f"invalid duration {shown}")
    total, place = Fraction(0), 0
    while place < len(rest):
        term = _TERM.match(rest, place)
        whole, part, unit = term.groups() if term else ("", None, "")
        if not whole and not part:
            raise _bad(f"invalid duration {shown}")
        if not unit:
            raise _bad(f"missing unit in duration {shown}")
        if unit not in _UNITS:
            raise _bad(f'unknown unit "{unit}" in duration {shown}')
        assert term is not None
        total += Fraction(f"{whole or 0}.{part or 0}") * _UNITS[unit]
        place = term.end()
    if total > _LONGEST:
        raise _bad(f"invalid duration {shown}")
    return -total if text.startswith("-") else total


def _bad(what: str) -> InvalidRequest:
    return InvalidRequest(f"time: {what}", param="keep_alive")
