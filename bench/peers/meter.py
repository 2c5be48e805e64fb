"""What a process tree used, and what the rest of the machine did meanwhile, read from /proc.

Two cores leave no room for a neighbour: one other busy process spoils a measurement. So each measurement carries the
load that others caused while it ran, and the caller repeats what was spoiled. Linux only; pure Python.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICK = os.sysconf("SC_CLK_TCK")  # ticks per second in /proc
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of CPU since boot: all that ran (`busy`), what the hypervisor withheld (`stolen`), our tree (`own`)."""

    at: float
    busy: float
    stolen: float
    own: float


def process_tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    tree, frontier = [], [root]
    while frontier:
        pid = frontier.pop()
        tree.append(pid)
        for task in _PROC.glob(f"{pid}/task/*/children"):
            try:
                frontier.extend(int(child) for child in task.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue  # that thread ended meanwhile
    return tree


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; index 0 is the state. Empty when it has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(root: int) -> float:
    """CPU time of `root`, its living descendants, and those they have waited for."""
    return (
        sum(sum(map(int, fields[11:15])) for fields in map(_stat_fields, process_tree(root)) if fields)
        / _TICK
    )


def seconds_since_start(pid: int) -> float:
    """How long ago the process was started (resolution: one tick, 10 ms)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat_fields(pid)[19]) / _TICK


def peak_rss_mb(root: int) -> float:
    """Peak resident memory in MB (10^6 bytes), summed over the process tree; mapped files count where resident."""
    total = 0
    for pid in process_tree(root):
        try:
            status = (_PROC / str(pid) / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return total * 1024 / 1e6


def sample(root: int) -> Sample:
    """The machine's counters now, and those of the tree under `root`."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, (_PROC / "stat").read_text().partition("\n")[0].split()[1:]
    )
    busy = (user + nice + system + irq + softirq) / _TICK
    return Sample(time.monotonic(), busy, steal / _TICK, cpu_seconds(root))


class Meter:
    """Context manager around a measurement. Afterwards: `seconds`, `others` and `stolen` (both in cores)."""

    def __init__(self, root: int | None = None) -> None:
        self.root = os.getpid() if root is None else root
        self.seconds = self.others = self.stolen = 0.0

    def __enter__(self) -> Meter:
        self._before = sample(self.root)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        after, before = sample(self.root), self._before
        wall = max(after.at - before.at, 1.0)  # shorter spans cannot be told apart by counters of 10 ms
        self.others = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / wall
        self.stolen = (after.stolen - before.stolen) / wall


def wait_until_idle(limit_s: float, allowed_cores: float, window_s: float = 2.0) -> float:
    """Blocks until others use at most `allowed_cores` for `window_s`; returns their load at the end (in cores).

    Gives up after `limit_s` seconds and returns the load that was still there: the caller decides.
    """
    deadline = time.monotonic() + limit_s
    while True:
        with Meter() as meter:
            time.sleep(window_s)
        if meter.others <= allowed_cores or time.monotonic() > deadline:
            return meter.others
