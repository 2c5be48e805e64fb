"""A simulated listener: when a stream of sound would have been heard to stop.

The player starts `wait` seconds after the first sound has come and plays one second a second; a piece that comes when
everything before it has been played ends a silence, and the player goes on at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Playback:
    """How it was to listen. Seconds."""

    underruns: int  # silences in the middle
    silent: float  # how long they were, all together

    @classmethod
    def of(cls, pieces: Sequence[tuple[float, float]], wait: float) -> Playback:
        """What a listener heard of `pieces`: (when it came, how long it sounds), in order."""
        if not pieces:
            return cls(0, 0.0)
        dry = pieces[0][0] + wait  # when everything that came so far has been played
        underruns, silent = 0, 0.0
        for number, (came, seconds) in enumerate(pieces):
            if number and came > dry:
                underruns += 1
                silent += came - dry
                dry = came
            dry += seconds
        return cls(underruns, silent)
