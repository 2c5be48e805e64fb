"""Sizes, times and tables, worded as people know them from Ollama's terminal."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = "    "
_AGES = 21  # years, which nobody waits for


def size_of(number: int) -> str:
    """Bytes in decimal units: 637 MB, 4.7 GB, 2 GB."""
    value, unit = float(number), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    if value >= 10 or value == int(value):
        return f"{int(value)} {unit}"
    return f"{value:.1f} {unit}"


def duration_of(seconds: float) -> str:
    """How long, in the one unit that says enough: `5 seconds`, `About an hour`, `3 weeks`."""
    hours = int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
    if seconds < 120:
        return "About a minute"
    if seconds < 3600:
        return f"{int(seconds / 60)} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for unit, size, most in (
        ("days", 24, 24 * 14),
        ("weeks", 24 * 7, 24 * 60),
        ("months", 24 * 30, 24 * 730),
    ):
        if hours < most:
            return f"{hours // size} {unit}"
    return f"{hours // (24 * 365)} years"


def ago(then: float, now: float) -> str:
    """When that was, or will be: `2 days ago`, `4 minutes from now`. Both in seconds since the epoch."""
    return f"{duration_of(abs(now - then))} {'ago' if then <= now else 'from now'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns that begin below each other, four blanks apart, without lines."""
    lines = [*([header] if header else []), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def section(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A heading with a table of its own, as `show` prints them; rows may differ in length."""
    most = max((len(row) for row in rows), default=0)
    lines = table((), [(*row, *[""] * (most - len(row))) for row in rows]).splitlines() if rows else []
    return "\n".join([f"  {title}", *(f"    {line}".rstrip() for line in lines)])


def until(moment: float, now: float) -> str:
    """When a model is dropped: `4 minutes from now`, `Forever`, `Stopping...`. Both in seconds since the epoch."""
    if moment < now:
        return "Stopping..."
    return "Forever" if (moment - now) / (365 * 24 * 3600) >= _AGES else ago(moment, now)
