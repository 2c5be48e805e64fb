"""What this machine has, read from the operating system: the facts behind `tutti doctor`.

Values only, no advice. Paths start at `root`, so that a test can describe another machine by a folder of files.
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from tutti.engine.machine import usable_cores

# Instruction sets that decide which kernels run, as /proc/cpuinfo spells them, most telling first.
INSTRUCTIONS = (
    *("amx_int8", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "fma"),
    *("sve2", "sve", "i8mm", "bf16", "asimddp", "asimd"),
)
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"


@dataclass(frozen=True, slots=True)
class Cpu:
    """`cores` are the machine's logical ones; `usable` what affinity and control group leave to this process."""

    model: str
    cores: int
    usable: int
    instructions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `limit` is the control group's (None: none); `huge_pages` is always, madvise, never or unknown."""

    total: int
    available: int
    swap: int
    limit: int | None
    huge_pages: str


def read_cpu(root: Path = Path("/")) -> Cpu:
    """The processor of this machine."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    return Cpu(
        model, os.cpu_count() or 1, usable_cores(), tuple(name for name in INSTRUCTIONS if name in flags)
    )


def read_memory(root: Path = Path("/")) -> Memory:
    """The memory of this machine."""
    sizes = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024
    if "MemTotal" not in sizes:
        import psutil

        memory = psutil.virtual_memory()
        sizes = {
            "MemTotal": memory.total,
            "MemAvailable": memory.available,
            "SwapTotal": psutil.swap_memory().total,
        }
    limits = [
        int(text)
        for name in ("memory.max", "memory/memory.limit_in_bytes")
        if (text := _read(root / "sys/fs/cgroup" / name).strip()).isdigit()
    ]
    limit = min((size for size in limits if size < sizes["MemTotal"]), default=None)
    setting = _read(root / HUGE_PAGES)
    huge_pages = setting.partition("[")[2].partition("]")[0] or "unknown"
    return Memory(sizes["MemTotal"], sizes["MemAvailable"], sizes.get("SwapTotal", 0), limit, huge_pages)


def free_disk(path: Path) -> int:
    """Free bytes of the disk that holds (or would hold) `path`."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # another system, or another version of this one
        return ""
