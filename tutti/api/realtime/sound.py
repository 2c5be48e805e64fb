"""The sound of a session: OpenAI's names of formats, sound that came in, sound on its way out.

Inside it is 16-bit PCM at the format's own rate; the codes of telephones are `media.pcm`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import soxr

from tutti.errors import InvalidMedia
from tutti.events import AudioDelta
from tutti.media.pcm import from_alaw, from_pcm16, from_ulaw, to_alaw, to_pcm16, to_ulaw
from tutti.media.tempo import Tempo
from tutti.media.wav import wav_header


class Format(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How sound is written: 16-bit PCM at 24 kHz, or one of the two codes of G.711, which are 8 kHz."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None  # Hz

    def __post_init__(self) -> None:
        expected = 24_000 if self.type == "audio/pcm" else 8_000
        if self.rate not in (None, expected):
            raise ValueError(f"rate of {self.type} is always {expected}")
        msgspec.structs.force_setattr(self, "rate", expected)

    @property
    def hertz(self) -> int:
        """Samples a second."""
        assert self.rate is not None
        return self.rate

    def decode(self, data: bytes) -> bytes:
        """Bytes of this format as PCM. Raises InvalidMedia on half a sample."""
        if self.type == "audio/pcm":
            if len(data) % 2:
                raise InvalidMedia(
                    f"audio/pcm takes two bytes a sample, but {len(data):,} bytes came: send whole samples"
                )
            return data
        return to_pcm16(from_ulaw(data) if self.type == "audio/pcmu" else from_alaw(data))

    def encode(self, pcm: bytes) -> bytes:
        """PCM as bytes of this format."""
        if self.type == "audio/pcm":
            return pcm
        return (to_ulaw if self.type == "audio/pcmu" else to_alaw)(from_pcm16(pcm))


@dataclass(frozen=True, slots=True)
class Sound:
    """A piece of sound: 16-bit PCM at `rate` Hz."""

    pcm: bytes
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.pcm) / 2 / self.rate

    def wav(self) -> bytes:
        """The same as a file."""
        return wav_header(self.rate, 1, len(self.pcm)) + self.pcm

    def encoded(self, format: Format) -> bytes:
        """The same in `format`."""
        if format.hertz == self.rate:
            return format.encode(self.pcm)
        return format.encode(to_pcm16(soxr.resample(from_pcm16(self.pcm), self.rate, format.hertz)))


class SoundOut:
    """An answer's sound, brought to a tempo and a format as it comes."""

    def __init__(self, format: Format, speed: float = 1.0) -> None:
        """`speed` as in `media.tempo`."""
        self.seconds = 0.0  # of sound that were given so far
        self._format = format
        self._speed = speed
        self._tempo: Tempo | None = None
        self._resampler: soxr.ResampleStream | None = None

    def push(self, event: AudioDelta) -> bytes:
        """The bytes that follow from a piece; some of it may be held back."""
        if self._speed == 1.0 and event.rate == self._format.hertz:
            self.seconds += event.seconds
            return self._format.encode(event.pcm)
        if self._tempo is None and self._speed != 1.0:
            self._tempo = Tempo(self._speed, event.rate)
        if self._resampler is None:
            self._resampler = soxr.ResampleStream(event.rate, self._format.hertz, 1, "float32", "HQ")
        samples = from_pcm16(event.pcm)
        return self._finished(samples if self._tempo is None else self._tempo.push(samples), last=False)

    def finish(self) -> bytes:
        """What was held back."""
        if self._resampler is None:
            return b""
        return self._finished(
            np.zeros(0, np.float32) if self._tempo is None else self._tempo.finish(), last=True
        )

    def _finished(self, samples: np.ndarray, *, last: bool) -> bytes:
        assert self._resampler is not None
        samples = self._resampler.resample_chunk(samples, last=last)
        self.seconds += len(samples) / self._format.hertz
        return self._format.encode(to_pcm16(samples))
