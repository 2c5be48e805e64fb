"""The sound that a client has sent and that is no message yet, and the turns of speech found in it.

Positions are counted in samples from the first one of the session, so what is found depends on the sound alone. While
nobody speaks only as much is kept as may still become part of a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from tutti.api.realtime.config import SemanticVad, ServerVad
from tutti.api.realtime.errors import Refusal
from tutti.api.realtime.sound import Format, Sound
from tutti.api.realtime.turns import Started, Stopped, TurnDetector
from tutti.media.pcm import from_pcm16

SHORTEST = 0.1  # seconds that can be committed
_STRETCH = 0.2  # seconds that are listened to at a time: turns come out in the order of the sound


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of speech that has ended, from `start` to `end` (milliseconds of the session's sound)."""

    start: int
    end: int
    sound: Sound


@dataclass(frozen=True, slots=True)
class Began:
    """A turn of speech has begun at `start` (milliseconds of the session's sound)."""

    start: int


class InputBuffer:
    """The sound that is waiting."""

    def __init__(self, format: Format, most: float) -> None:
        """`most` seconds are kept at most."""
        self.format = format
        self._most = most
        self._pcm = bytearray()
        self._first = 0  # position of the first sample kept
        self._before = 0.0  # seconds of sound that came in other formats
        self._detector: TurnDetector | None = None
        self._since: int | None = None  # sound from here on is kept while nobody speaks

    @property
    def position(self) -> int:
        """That of the next sample."""
        return self._first + len(self._pcm) // 2

    @property
    def seconds(self) -> float:
        """How much is waiting."""
        return len(self._pcm) / 2 / self.format.hertz

    @property
    def speaking(self) -> bool:
        """Whether a turn of speech is under way."""
        return self._detector is not None and self._detector.start is not None

    def configure(self, format: Format, detection: ServerVad | SemanticVad | None) -> None:
        """Take sound of this format, and look for turns as `detection` says. Another rate forgets what is waiting."""
        if format.hertz != self.format.hertz:
            self._before += self.position / self.format.hertz
            self._pcm.clear()
            self._first, self._since = 0, None
        self.format = format
        self._detector = None
        if detection is not None:
            padding = detection.prefix_padding_ms / 1000
            self._detector = TurnDetector(
                format.hertz, detection.threshold, padding, detection.silence, self.position
            )

    async def append(self, data: bytes) -> AsyncGenerator[Began | Turn, None]:
        """Take sound in; what begins and ends in it comes as the sound is listened to. Raises InvalidMedia, Refusal.

        Must be iterated to its end. A turn that grows too long is ended; without turns, too much sound is refused.
        Others get their turn while much sound is listened to.
        """
        pcm = self.format.decode(data)
        if self._detector is None and self.seconds + len(pcm) / 2 / self.format.hertz > self._most:
            raise Refusal(
                "input_audio_buffer_full",
                f"more than {self._most:.0f} seconds of sound are waiting: commit or clear them",
                "audio",
            )
        stretch = 2 * int(_STRETCH * self.format.hertz)
        for start in range(0, len(pcm), stretch):
            for found in self._listen(pcm[start : start + stretch]):
                yield found
            await asyncio.sleep(0)

    def commit(self) -> Sound:
        """All that is waiting. Raises Refusal when that is too little."""
        if self.seconds < SHORTEST:
            raise Refusal(
                "input_audio_buffer_commit_empty",
                f"at least {SHORTEST * 1000:.0f} ms of sound can be committed, but "
                f"{self.seconds * 1000:.0f} ms are waiting",
            )
        sound = self._cut(self._first, self.position)
        self.clear()
        return sound

    def clear(self) -> None:
        """Forget what is waiting."""
        end = self.position
        self._drop(end)
        self._since = None
        if self._detector is not None:
            self._detector.end(end)

    def watch(self, delay: float) -> None:
        """Count silence from `delay` seconds after now (or not at all: see `unwatch`), for `silence`."""
        self._since = self.position + int(delay * self.format.hertz)

    def unwatch(self) -> None:
        """Count silence no longer."""
        self._since = None

    def silence(self, seconds: float) -> Turn | None:
        """The sound since `watch`, if that is `seconds` by now and nobody speaks: then it is committed."""
        if self._since is None or self.speaking or self.position - self._since < seconds * self.format.hertz:
            return None
        turn = self._turn(max(self._since, self._first), self.position)
        self.clear()
        return turn

    def _listen(self, pcm: bytes) -> Iterator[Began | Turn]:
        self._pcm += pcm
        if self._detector is None:
            return
        for found in self._detector.push(from_pcm16(pcm)):
            if isinstance(found, Started):
                self._since = None
                yield Began(self._milliseconds(max(found.start, self._first)))
            elif isinstance(found, Stopped):
                yield self._end(found.start, found.end)
        start = self._detector.start
        if start is None:
            keep = self.position - self._detector.lookback
            self._drop(keep if self._since is None else min(keep, self._since))
        elif self.position - start > self._most * self.format.hertz:
            end = self.position
            self._detector.end(end)
            yield self._end(start, end)

    def _end(self, start: int, end: int) -> Turn:
        turn = self._turn(max(start, self._first), end)
        self._drop(end)
        return turn

    def _turn(self, start: int, end: int) -> Turn:
        return Turn(self._milliseconds(start), self._milliseconds(end), self._cut(start, end))

    def _cut(self, start: int, end: int) -> Sound:
        data = bytes(self._pcm[2 * (start - self._first) : 2 * (end - self._first)])
        return Sound(data, self.format.hertz)

    def _drop(self, until: int) -> None:
        """Forget the samples before position `until`."""
        if until > self._first:
            del self._pcm[: 2 * (until - self._first)]
            self._first = until

    def _milliseconds(self, position: int) -> int:
        return round(1000 * (self._before + position / self.format.hertz))
