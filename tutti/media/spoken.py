"""A file of speech that is written while the speech is made: pieces of sound in, at a tempo, bytes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutti.errors import InvalidRequest
from tutti.events import AudioDelta
from tutti.media.audio_writer import AudioWriter, check_format, write_audio
from tutti.media.pcm import from_pcm16
from tutti.media.tempo import FASTEST, SLOWEST, Tempo


class SpokenFile:
    """One file in a format of `audio_writer`. What `push` and `finish` give, joined, is the file."""

    def __init__(self, format: str, speed: float = 1.0) -> None:
        """`speed` changes the tempo, not the pitch: 2 halves the duration. Raises InvalidRequest."""
        check_format(format)
        check_speed(speed)
        self._format = format
        self._speed = speed
        self._writer: AudioWriter | None = None  # made with the first sound, which tells the rate
        self._tempo: Tempo | None = None

    def push(self, sound: AudioDelta) -> bytes:
        """What follows from a piece of sound; nothing while tempo or encoder keep it back."""
        if self._writer is None:
            self._writer = AudioWriter(self._format, sound.rate)
            self._tempo = Tempo(self._speed, sound.rate) if self._speed != 1 else None
        samples = from_pcm16(sound.pcm)
        return self._writer.push(samples if self._tempo is None else self._tempo.push(samples))

    def finish(self) -> bytes:
        """The last bytes of the file; without any sound there is no file."""
        if self._writer is None:
            return b""
        last = b"" if self._tempo is None else self._writer.push(self._tempo.finish())
        return last + self._writer.finish()


def check_speed(speed: float) -> None:
    """Raises InvalidRequest on a tempo that is not served."""
    if not SLOWEST <= speed <= FASTEST:
        raise InvalidRequest(
            f"speed must be between {SLOWEST:g} and {FASTEST:g}, got {speed:g}", param="speed"
        )


def joined(sounds: Sequence[AudioDelta], speed: float = 1.0) -> tuple[np.ndarray, int]:
    """`sounds` as samples float32 [samples] at the tempo `speed`, and their rate; (none, 0) if there are none."""
    if not sounds:
        return np.zeros(0, np.float32), 0
    samples, rate = from_pcm16(b"".join(sound.pcm for sound in sounds)), sounds[0].rate
    if speed != 1:
        tempo = Tempo(speed, rate)
        samples = np.concatenate([tempo.push(samples), tempo.finish()])
    return samples, rate


def whole_file(sounds: Sequence[AudioDelta], format: str, speed: float = 1.0) -> bytes:
    """A file of all of `sounds`, which tells its length; nothing if there are none."""
    samples, rate = joined(sounds, speed)
    return write_audio(samples, rate, format) if rate else b""
