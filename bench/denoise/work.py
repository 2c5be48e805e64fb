"""What both runners of `bench.denoise` share: the command line, the requests, the form of a result."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture: when somebody asks for it (seconds), its side (pixels), its steps, its seed."""

    at: float
    side: int
    steps: int
    seed: int

    @property
    def prompt(self) -> str:
        """Words of its own, of a length of its own."""
        return " ".join(["a", *["red"] * (5 + 3 * self.seed), "circle"])


ONE = (Asked(0.0, 512, 20, 1),)
MIXED = (
    Asked(0.0, 512, 20, 1),
    Asked(0.5, 256, 8, 2),
    Asked(1.0, 384, 12, 3),
    Asked(1.5, 256, 10, 4),
    Asked(2.0, 512, 16, 5),
    Asked(4.0, 256, 8, 6),
    Asked(6.0, 384, 10, 7),
    Asked(8.0, 256, 12, 8),
)
WORK = {"one": ONE, "mixed": MIXED}


def shrunk(work: Sequence[Asked]) -> tuple[Asked, ...]:
    """The same for a check that everything runs: an eighth of the sides, three steps, a tenth of the waiting."""
    return tuple(Asked(one.at / 10, one.side // 8, 3, one.seed) for one in work)


@dataclass(frozen=True, slots=True)
class Job:
    """A child's task; `cache` "none" or "first_block:0.1"; `pictures`, where its pictures go."""

    model: Path
    work: tuple[Asked, ...]
    name: str  # of the work
    guided: bool
    cache: str
    dtype: str
    threads: int
    pictures: Path


@dataclass(slots=True)
class Result:
    """Seconds; each picture's latency counts from when it was asked for. `skipped` steps of `steps`."""

    peer: str
    work: str
    cache: str
    total_s: float
    latencies: list[float]
    small: list[float]  # the latencies of the small ones
    peak_bytes: int
    steps: int
    skipped: int = 0
    files: list[str] = field(default_factory=list)  # in the order of the work

    def line(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` are at most (the nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, round(share * len(ranked) + 0.5) - 1))]


def median(values: Sequence[float]) -> float:
    """The middle of the rounds."""
    return statistics.median(values)


def job_of(what: str | None) -> Job:
    """The command line's job. Sets the number of threads before torch is imported."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", choices=tuple(WORK), required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cache", default="none")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    work = WORK[options.work]
    return Job(
        options.model,
        shrunk(work) if options.quick else work,
        options.work,
        options.guided,
        options.cache,
        options.dtype,
        options.threads,
        options.pictures,
    )


def small_of(job: Job, latencies: Sequence[float]) -> list[float]:
    """The latencies of the smallest pictures of several."""
    least = min(asked.side for asked in job.work)
    return [late for asked, late in zip(job.work, latencies, strict=True) if asked.side == least]
