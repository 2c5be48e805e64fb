"""Sound to files, whole or as it comes: WAV and bare 16-bit samples by ourselves, the rest by PyAV's encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from tutti.errors import InvalidRequest
from tutti.events import AudioDelta
from tutti.media.container import NOTE
from tutti.media.pcm import from_pcm16, to_pcm16
from tutti.media.wav import wav_file, wav_header

if TYPE_CHECKING:
    from av import AudioStream
    from soxr import ResampleStream

AudioFormat = Literal["wav", "pcm", "flac", "mp3", "opus", "aac"]


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How a format is written: FFmpeg's container and codec, the rates it takes (Hz), and the muxer's options.

    `noted` are the options of a file that carries a note; None: the format has no place for one.
    """

    container: str
    codec: str
    rates: tuple[int, ...]
    options: dict[str, str]
    bit_rate: int | None = None  # bits a second, of one channel
    noted: dict[str, str] | None = None


_ENCODINGS = {
    "flac": _Encoding("flac", "flac", (), {}, noted={}),
    "mp3": _Encoding(
        "mp3",
        "libmp3lame",
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        {"id3v2_version": "0"},
        128_000,
        {"id3v2_version": "4"},
    ),
    # A page of sound every 100 ms rather than every second: a listener waits for whole pages.
    "opus": _Encoding(
        "ogg", "libopus", (8000, 12000, 16000, 24000, 48000), {"page_duration": "100000"}, 64_000, {}
    ),
    "aac": _Encoding(
        "adts",
        "aac",
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
        {},
        128_000,
    ),
}
CONTENT_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}


def write_audio(samples: np.ndarray, rate: int, format: str, note: str = "") -> bytes:
    """A file of `samples`, float32 [samples], or [samples, 2] of two channels, at `rate` Hz.

    The `note` is what `container.read_note` finds; bare samples and AAC have no place for one. Raises InvalidRequest if
    `format` is no `AudioFormat`.
    """
    check_format(format)
    channels = samples.shape[1] if samples.ndim == 2 else 1
    if format == "wav":
        return wav_file(to_pcm16(samples), rate, channels, note)
    if format == "pcm":
        return to_pcm16(samples)
    file = BytesIO()
    encoder = _Encoder(_ENCODINGS[format], rate, file, channels, note)
    encoder.push(samples)
    encoder.finish()
    return file.getvalue()


def write_sounds(sounds: Sequence[AudioDelta], format: str) -> bytes:
    """A file of all these pieces; nothing if there are none."""
    if not sounds:
        return b""
    return write_audio(samples_of(sounds), sounds[0].rate, format, sounds[0].note)


def samples_of(sounds: Sequence[AudioDelta]) -> np.ndarray:
    """All these pieces, float32 [samples], or [samples, channels] where there are several channels."""
    samples = from_pcm16(b"".join(sound.pcm for sound in sounds))
    channels = sounds[0].channels if sounds else 1
    return samples if channels == 1 else samples.reshape(-1, channels)


class AudioWriter:
    """A file that is written while its sound comes: what `push` and `finish` give is to be sent at once, in order."""

    def __init__(self, format: str, rate: int) -> None:
        """`format` is an `AudioFormat`, `rate` in Hz. Raises InvalidRequest."""
        check_format(format)
        self._out = _Pipe()
        self._encoder = _Encoder(_ENCODINGS[format], rate, self._out) if format in _ENCODINGS else None
        if format == "wav":
            self._out.write(wav_header(rate))

    def push(self, samples: np.ndarray) -> bytes:
        """The bytes that follow from `samples`, float32 [samples]; an encoder may hold some back."""
        if self._encoder is None:
            self._out.write(to_pcm16(samples))
        else:
            self._encoder.push(samples)
        return self._out.take()

    def finish(self) -> bytes:
        """The last bytes of the file."""
        if self._encoder is not None:
            self._encoder.finish()
        return self._out.take()


class _Pipe:
    """What an encoder writes into: it cannot go back, as a network cannot."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


class _Encoder:
    """FFmpeg's encoder, writing into `file`; resamples where the codec does not take the rate."""

    def __init__(
        self, encoding: _Encoding, rate: int, file: BytesIO | _Pipe, channels: int = 1, note: str = ""
    ) -> None:
        import av

        coded = rate
        if encoding.rates and rate not in encoding.rates:
            coded = next((known for known in encoding.rates if known > rate), encoding.rates[-1])
        self._resample: ResampleStream | None = None
        if coded != rate:
            import soxr

            self._resample = soxr.ResampleStream(rate, coded, channels, "float32", "HQ")
        options = {"flush_packets": "1", **encoding.options, **((note and encoding.noted) or {})}
        self._container = av.open(file, "w", format=encoding.container, container_options=options)
        self._layout = "mono" if channels == 1 else "stereo"
        self._stream = cast(
            "AudioStream", self._container.add_stream(encoding.codec, rate=coded, layout=self._layout)
        )
        if encoding.bit_rate is not None:
            self._stream.bit_rate = channels * encoding.bit_rate
        if note and encoding.noted is not None:  # an Ogg file has it with its track
            (self._stream if encoding.container == "ogg" else self._container).metadata[NOTE] = note
        self._rate = coded
        self._count = 0
        self._container.start_encoding()

    def push(self, samples: np.ndarray) -> None:
        """Encode samples, float32 [samples] or [samples, channels]."""
        self._push(np.ascontiguousarray(samples, np.float32), last=False)

    def finish(self) -> None:
        """Encode what was held back, and end the file."""
        self._push(np.zeros((0, 2) if self._layout == "stereo" else 0, np.float32), last=True)
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _push(self, samples: np.ndarray, *, last: bool) -> None:
        import av

        if self._resample is not None:
            samples = self._resample.resample_chunk(samples, last=last)
        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1).reshape(1, -1), "flt", self._layout)
        frame.sample_rate = self._rate
        frame.pts = self._count
        self._count += len(samples)
        self._container.mux(self._stream.encode(frame))


def check_format(format: str) -> None:
    if format not in CONTENT_TYPES:
        known = ", ".join(CONTENT_TYPES)
        raise InvalidRequest(f"{format!r} is no format for sound; choose one of {known}", param="format")
