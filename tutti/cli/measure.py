"""What a benchmark measures: when each request's tokens came, and what that amounts to.

TTFT: sent to first token. ITL: from one piece of a stream to the next. TPOT: (E2E - TTFT) / (tokens - 1). E2E: sent to
the end. All times are in seconds here; tables and files show milliseconds, under the names of vLLM's benchmarks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PERCENTILES = (50, 90, 99)


@dataclass(slots=True)
class Record:
    """One request: when it was sent, when pieces came, how many tokens there were. `error` tells why it failed."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    sent: float = 0.0
    pieces: list[float] = field(default_factory=list)
    sounds: list[tuple[float, float]] = field(default_factory=list)  # (when a piece came, seconds of sound)
    ended: float | None = None
    error: str | None = None

    def piece(self, tokens: int = 1) -> None:
        """`tokens` came just now."""
        self.pieces.append(time.perf_counter())
        self.output_tokens += tokens

    def sound(self, seconds: float) -> None:
        """So many seconds of sound came just now."""
        self.sounds.append((time.perf_counter(), seconds))

    @property
    def first_sound(self) -> float | None:
        """Seconds to the first sound, if any came."""
        return self.sounds[0][0] - self.sent if self.sounds else None

    @property
    def sound_seconds(self) -> float:
        """How long all of it sounds."""
        return sum(seconds for _, seconds in self.sounds)

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token, if any came."""
        return self.pieces[0] - self.sent if self.pieces else None

    @property
    def e2e(self) -> float | None:
        """Seconds to the end, if it was reached."""
        return self.ended - self.sent if self.ended is not None else None

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first."""
        if self.output_tokens < 2 or len(self.pieces) < 2:
            return None
        return (self.pieces[-1] - self.pieces[0]) / (self.output_tokens - 1)

    @property
    def itl(self) -> list[float]:
        """Seconds between the pieces."""
        return [after - before for before, after in zip(self.pieces, self.pieces[1:], strict=False)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the sorted `values` lie, interpolated; NaN of none."""
    if not values:
        return math.nan
    place = (len(values) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure is distributed, in milliseconds."""

    mean: float
    percentiles: tuple[float, ...]  # of PERCENTILES

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of `seconds`."""
        ordered = sorted(seconds)
        mean = sum(ordered) / len(ordered) if ordered else math.nan
        return cls(mean * 1000, tuple(percentile(ordered, percent) * 1000 for percent in PERCENTILES))


@dataclass(frozen=True, slots=True)
class Summary:
    """What all requests together amount to. `duration` is in seconds."""

    duration: float
    completed: int
    failed: int
    prompt_tokens: int
    output_tokens: int
    spreads: dict[str, Spread]

    @classmethod
    def of(cls, records: Sequence[Record], duration: float, *, partial: bool = False) -> Summary:
        """The summary of `records`, which took `duration` seconds in all. Failed requests count as failed only.

        `partial` counts what has come of those that still run.
        """
        good = [
            record for record in records if (partial or record.ended is not None) and record.error is None
        ]
        spreads = {
            "ttft": Spread.of([record.ttft for record in good if record.ttft is not None]),
            "tpot": Spread.of([record.tpot for record in good if record.tpot is not None]),
            "itl": Spread.of([gap for record in good for gap in record.itl]),
            "e2el": Spread.of([record.e2e for record in good if record.e2e is not None]),
        }
        return cls(
            duration,
            len(good),
            sum(record.error is not None for record in records),
            sum(record.prompt_tokens for record in good),
            sum(record.output_tokens for record in good),
            spreads,
        )

    @property
    def request_throughput(self) -> float:
        """Requests per second."""
        return self.completed / self.duration if self.duration else 0.0

    @property
    def output_throughput(self) -> float:
        """Output tokens per second."""
        return self.output_tokens / self.duration if self.duration else 0.0

    @property
    def total_throughput(self) -> float:
        """Prompt and output tokens per second."""
        return (self.prompt_tokens + self.output_tokens) / self.duration if self.duration else 0.0

    def as_json(self) -> dict[str, Any]:
        """Numbers for a file; names and units as in vLLM's result files. What was not measured is null."""
        found: dict[str, Any] = {
            "duration": self.duration,
            "completed": self.completed,
            "failed": self.failed,
            "total_input_tokens": self.prompt_tokens,
            "total_output_tokens": self.output_tokens,
            "request_throughput": self.request_throughput,
            "output_throughput": self.output_throughput,
            "total_token_throughput": self.total_throughput,
        }
        for name, spread in self.spreads.items():
            found[f"mean_{name}_ms"] = _number(spread.mean)
            for percent, value in zip(PERCENTILES, spread.percentiles, strict=True):
                found[f"{'median' if percent == 50 else f'p{percent}'}_{name}_ms"] = _number(value)
        return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
