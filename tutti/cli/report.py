"""How a benchmark shows its numbers: a table that follows it, the table at the end, a JSON file."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.cli.measure import PERCENTILES, Record, Summary

if TYPE_CHECKING:
    from rich.table import Table

_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2E"}

Watch = Callable[[Sequence[Record]], None]


def unseen(records: Sequence[Record]) -> None:
    """Shows nothing."""


@contextmanager
def live_table(title: str) -> Iterator[Watch]:
    """A table that follows the records while a benchmark runs; it leaves no trace, and is absent off a terminal."""
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        yield unseen
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def watch(records: Sequence[Record]) -> None:
            sent = [record for record in records if record.sent]
            running = sum(record.ended is None and not record.error for record in sent)
            seconds = time.perf_counter() - min((record.sent for record in sent), default=math.inf)
            summary = Summary.of(records, max(seconds, 0.0), partial=True)
            done = f"{len(sent) - running}/{len(records)} done, {running} running"
            line = f"{title}: {done}, {summary.output_throughput:,.0f} tokens/s"
            live.update(Group(line, "", _table(summary)), refresh=True)

        yield watch


def print_summary(summary: Summary, title: str) -> None:
    """The numbers for people."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{title}\n")
    console.print(_table(summary))
    console.print(
        f"\n{summary.completed} requests in {summary.duration:.2f} s: "
        f"{summary.request_throughput:.2f} requests/s, {summary.output_throughput:,.1f} output tokens/s, "
        f"{summary.total_throughput:,.1f} tokens/s in all"
    )


def write_json(
    path: Path | None, kind: str, model: str, shape: dict[str, Any], summary: Summary, more: dict[str, Any]
) -> None:
    """The numbers as a file, with what is needed to repeat them; nothing where `path` is None."""
    if path is None:
        return
    import tutti
    from tutti.cli.machine import read_cpu

    cpu = read_cpu()
    found = {
        "benchmark": kind,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tutti": tutti.__version__,
        "cpu": cpu.model,
        "cores": cpu.usable,
        "model": model,
        **shape,
        **summary.as_json(),
        **more,
    }
    path.write_text(json.dumps(found, indent=2) + "\n")


def _table(summary: Summary) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("ms")
    for column in ("mean", *(f"p{percent}" for percent in PERCENTILES)):
        table.add_column(column, justify="right")
    for name, spread in summary.spreads.items():
        values = (spread.mean, *spread.percentiles)
        table.add_row(_NAMES[name], *("-" if math.isnan(value) else f"{value:,.2f}" for value in values))
    return table
