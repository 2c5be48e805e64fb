"""When a turn of speech begins and ends, by the verdicts of the voice detector. All times are counts of samples.

verdicts   . . . # . . # # # # # # # # # # . . # # # . . . . . . . . . .
                 |     |                                 |             |
                 a click           speech                   silence
                   |<-->|                                 |<----------->|
                start   the first of three                              end
                 (padding before)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutti.media.vad import FRAMES, VoiceActivity

if TYPE_CHECKING:
    import numpy as np

ONSET = 3  # verdicts of speech in a row that make a beginning: a click has fewer


@dataclass(frozen=True, slots=True)
class Started:
    """Speech was heard; its turn begins at sample `start`, the padding included."""

    start: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Silence has lasted long enough; the turn that began at `start` ends at sample `end`."""

    start: int
    end: int


class TurnDetector:
    """Finds turns in one stream of sound."""

    def __init__(self, rate: int, threshold: float, padding: float, silence: float, origin: int = 0) -> None:
        """`rate` in Hz; `padding` and `silence` in seconds; `origin` is the number of the first sample."""
        self.frame = rate // FRAMES
        self.start: int | None = None  # of the turn under way
        self._activity = VoiceActivity(rate, threshold)
        self._padding = int(padding * rate)
        self._silence = max(int(silence * rate), self.frame)
        self._position = origin  # of the next verdict
        self._free = origin  # where the last turn ended
        self._row = 0  # verdicts of speech, the last ones, in a row
        self._last = origin  # where the last speech ended

    @property
    def lookback(self) -> int:
        """How many samples before now may still become part of a turn."""
        return self._padding + (ONSET + 2) * self.frame  # two more: the resampler's delay, and a frame begun

    def push(self, samples: np.ndarray) -> list[Started | Stopped]:
        """What float32 [samples] settle, in order."""
        found: list[Started | Stopped] = []
        for speech in self._activity.push(samples):
            self._position += self.frame
            self._row = self._row + 1 if speech else 0
            if speech:
                self._last = self._position
            if self.start is None and self._row >= ONSET:
                self.start = max(self._position - ONSET * self.frame - self._padding, self._free)
                found.append(Started(self.start))
            elif self.start is not None and self._position - self._last >= self._silence:
                found.append(Stopped(self.start, self._position))
                self.end(self._position)
        return found

    def end(self, position: int) -> None:
        """The turn is over: what comes before sample `position` belongs to no later one."""
        self.start, self._free, self._row = None, position, 0
