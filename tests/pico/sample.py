"""Gates are for whole examinations (`make pico-eval`); a test has a sample of one."""

from __future__ import annotations

import math


def slack(gate: float, count: int) -> float:
    """By how much `count` answers (or words) may miss a `gate` that all of them meet: two standard errors."""
    return 2 * math.sqrt(gate * (1 - gate) / count)
