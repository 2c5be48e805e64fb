"""Files to sound. Sound is float32 [samples], one channel, in [-1, 1] (a float file may go beyond).

What soundfile reads (WAV, FLAC, Ogg, AIFF ...) it reads; the rest (MP3, M4A, WebM, the sound of a video) is read by
PyAV: MP3 too, for soundfile's decoder of it writes what it thinks of a file to standard error. Both give blocks,
which are mixed down and resampled one by one: the memory taken is that of the result.
Writing is `audio_writer`'s, bare samples are `pcm`'s; their names are here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from tutti.errors import InvalidMedia
from tutti.media.audio_writer import AudioWriter, write_audio
from tutti.media.broken import reading
from tutti.media.container import open_container
from tutti.media.kind import sniff
from tutti.media.pcm import from_alaw, from_pcm16, from_ulaw, to_alaw, to_pcm16, to_ulaw
from tutti.media.wav import promised

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer
    from soundfile import SoundFile

__all__ = [
    "AudioWriter",
    "from_alaw",
    "from_pcm16",
    "from_ulaw",
    "read_audio",
    "read_container",
    "to_alaw",
    "to_pcm16",
    "to_ulaw",
    "write_audio",
]

MOST_SECONDS = 1800.0
ADVICE = "send a whole WAV, FLAC, MP3, Ogg, M4A or WebM file"

_BLOCK = 1 << 19  # values decoded at a time, all channels together
_RATES = (1_000, 768_000)  # Hz a file may have
_UNKNOWN = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT
_NO_LENGTH = 1 << 48  # samples; what is above is libsndfile's word for "unknown"
_SOUNDFILE = {
    "audio/wav",
    "audio/flac",
    "audio/ogg",
    "audio/aiff",
    "audio/basic",
    "audio/x-caf",
}


def read_audio(data: bytes, rate: int, *, most_seconds: float = MOST_SECONDS) -> np.ndarray:
    """The sound in a file of any common format, float32 [samples] at `rate` Hz: the mean of its channels.

    Resampled by soxr (its quality "HQ"). Raises InvalidMedia, for one when it is longer than `most_seconds`.
    """
    with reading("recording", data, ADVICE):
        if sniff(data) in _SOUNDFILE:
            samples = _read_soundfile(data, rate, most_seconds)
            if samples is not None:
                return samples
        with open_container(data) as container:
            return read_container(container, rate, most_seconds)


def read_container(container: InputContainer, rate: int, most_seconds: float) -> np.ndarray:
    """The first track of sound in a container. Raises InvalidMedia if there is none or it is too long."""
    if not container.streams.audio:
        raise InvalidMedia(f"the file has no sound in it; {ADVICE}")
    frames = container.decode(container.streams.audio[0])
    first = next(frames, None)
    if first is None:
        raise InvalidMedia(f"the recording is empty: it has no samples; {ADVICE}")
    return _collect(_mixed(chain((first,), frames), first.sample_rate), first.sample_rate, rate, most_seconds)


def _mixed(frames: Iterable[AudioFrame], rate: int) -> Iterator[np.ndarray]:
    """Decoded frames, mixed down: float32 [samples].

    The channels are interleaved first: PyAV lists a frame's separate channels up to a null pointer, which FFmpeg does
    not set behind the eighth.
    """
    import av

    form: tuple[str, str] | None = None
    for frame in frames:
        if frame.sample_rate != rate:
            raise InvalidMedia(
                f"the recording changes from {rate:,} to {frame.sample_rate:,} samples a second; {ADVICE}"
            )
        if form != (frame.format.name, frame.layout.name):
            form = (frame.format.name, frame.layout.name)
            interleave = av.AudioResampler("flt", frame.layout, rate)
        for block in interleave.resample(frame):
            yield block.to_ndarray().reshape(-1, block.layout.nb_channels).mean(1)


def _read_soundfile(data: bytes, rate: int, most_seconds: float) -> np.ndarray | None:
    """As soundfile reads it; None if libsndfile cannot. Raises InvalidMedia, RuntimeError."""
    import soundfile

    try:
        file = soundfile.SoundFile(BytesIO(data))
    except soundfile.LibsndfileError as error:
        if error.code == _UNKNOWN:
            return None
        raise
    with file:
        announced = promised(data)
        if announced is not None and announced[1] < announced[0]:
            raise InvalidMedia(
                f"the recording is cut short: its header announces {announced[0]:,} bytes of samples and "
                f"{announced[1]:,} are there; {ADVICE}"
            )
        if file.frames > _NO_LENGTH:  # a stream, in which libsndfile cannot find its way
            return None
        samples = _collect(_blocks(file), file.samplerate, rate, most_seconds)
        if file.tell() < file.frames:
            raise InvalidMedia(
                f"the recording is cut short: its header announces {file.frames / file.samplerate:.2f} seconds and "
                f"{file.tell() / file.samplerate:.2f} could be read; {ADVICE}"
            )
        return samples


def _blocks(file: SoundFile) -> Iterator[np.ndarray]:
    """The file piece by piece, mixed down: float32 [samples]."""
    size = max(_BLOCK // file.channels, 1)
    while len(block := file.read(size, "float32", always_2d=True)):
        yield block.mean(1)


def _collect(blocks: Iterable[np.ndarray], source: int, rate: int, most_seconds: float) -> np.ndarray:
    """Blocks [samples] at `source` Hz, joined and resampled to `rate`. Raises InvalidMedia."""
    if not _RATES[0] <= source <= _RATES[1]:
        raise InvalidMedia(
            f"the recording has {source:,} samples a second; {_RATES[0]:,} to {_RATES[1]:,} are taken: {ADVICE}"
        )
    import soxr

    resampler = None if source == rate else soxr.ResampleStream(source, rate, 1, "float32", "HQ")
    pieces: list[np.ndarray] = []
    count = 0
    for block in blocks:
        count += len(block)
        if count > most_seconds * source:
            raise InvalidMedia(
                f"the recording is longer than {count / source:,.1f} seconds; at most {most_seconds:,.1f} are taken: "
                "cut it into pieces"
            )
        if not np.isfinite(block).all():
            raise InvalidMedia(f"the recording has samples that are no numbers (NaN or infinite); {ADVICE}")
        pieces.append(block if resampler is None else resampler.resample_chunk(block))
    if not count:
        raise InvalidMedia(f"the recording is empty: it has no samples; {ADVICE}")
    if resampler is not None:
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)
