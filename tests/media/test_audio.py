"""Recordings of every common form become one channel at the rate asked for; sound is written as people play it."""

from __future__ import annotations

from io import BytesIO

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from tests.media import files
from tutti.errors import InvalidMedia, InvalidRequest
from tutti.media.audio import AudioWriter, read_audio, write_audio

RATE = 16_000
TONE = files.tone()


def loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def pitch(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def is_the_tone(samples: np.ndarray, rate: int = RATE, *, slack: float = 0.15) -> None:
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) / rate == pytest.approx(1.0, abs=slack)
    assert pitch(samples, rate) == pytest.approx(440, abs=3)
    assert loudness(samples) == pytest.approx(loudness(TONE), rel=0.1)


@pytest.mark.parametrize(
    ("format", "subtype"), [("WAV", "FLOAT"), ("WAV", "PCM_24"), ("FLAC", "PCM_24"), ("AIFF", None)]
)
def test_lossless_recordings_are_what_they_were(format: str, subtype: str | None) -> None:
    seen = read_audio(files.recording(TONE, RATE, format, subtype), RATE)
    assert np.abs(seen - TONE).max() < 1e-4 and len(seen) == len(TONE)


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_what_soundfile_reads(format: str) -> None:
    is_the_tone(read_audio(files.recording(TONE, RATE, format), RATE))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("ipod", "aac"),
        ("mp4", "aac"),
        ("adts", "aac"),
        ("webm", "libopus"),
        ("ogg", "libopus"),
        ("matroska", "flac"),
    ],
)
def test_what_ffmpeg_reads(container: str, codec: str) -> None:
    data = files.encoded(files.tone(rate=48_000), 48_000, container, codec)
    is_the_tone(read_audio(data, RATE))


def test_channels_are_averaged() -> None:
    both = np.stack([TONE, np.zeros_like(TONE)], 1)
    assert np.abs(read_audio(files.recording(both, RATE, "WAV", "FLOAT"), RATE) - TONE / 2).max() < 1e-6


@pytest.mark.parametrize("channels", [2, 6, 7, 8, 9, 24, 64])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_many_channels_are_averaged_too(channels: int, subtype: str) -> None:
    wav = files.recording(np.stack([TONE] * channels, 1), RATE, "WAV", subtype)
    for data in (wav, files.remuxed(wav, "matroska")):
        assert np.abs(read_audio(data, RATE) - TONE).max() < 1e-4


@pytest.mark.parametrize("source", [8_000, 22_050, 44_100, 48_000])
def test_resampling_is_soxrs_high_quality(source: int) -> None:
    samples = files.tone(40.0, source)  # several blocks
    seen = read_audio(files.recording(samples, source, "WAV", "FLOAT"), RATE)
    expected = soxr.resample(samples, source, RATE, "HQ")
    assert abs(len(seen) - len(expected)) <= 1
    most = min(len(seen), len(expected))
    assert np.abs(seen[:most] - expected[:most]).max() < 1e-4


def test_a_video_has_a_sound() -> None:
    is_the_tone(read_audio(files.video(10, sound=TONE), RATE))


def test_a_video_without_sound_says_so() -> None:
    with pytest.raises(InvalidMedia, match="no sound in it"):
        read_audio(files.video(5), RATE)


def test_too_long_a_recording_names_both_numbers() -> None:
    data = files.recording(TONE, RATE, "WAV")
    with pytest.raises(InvalidMedia, match=r"longer than 1\.0 seconds; at most 0\.5"):
        read_audio(data, RATE, most_seconds=0.5)


def test_an_hour_of_silence_in_a_small_file_is_refused() -> None:
    data = files.recording(np.zeros(3600 * 1000, np.int16), 1000, "FLAC")
    assert len(data) < 100_000
    with pytest.raises(InvalidMedia, match=r"at most 1,800\.0"):
        read_audio(data, RATE)


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_a_truncated_recording_is_refused(format: str) -> None:
    data = files.recording(np.random.default_rng(0).normal(0, 0.1, RATE), RATE, format)
    with pytest.raises(InvalidMedia, match=r"cut short.*announces|flac decoder lost sync"):
        read_audio(data[: len(data) // 2], RATE)


def test_a_streamed_wav_without_a_length_is_read_to_its_end() -> None:
    writer = AudioWriter("wav", RATE)
    data = writer.push(TONE[:5000]) + writer.push(TONE[5000:]) + writer.finish()
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"
    assert np.abs(read_audio(data, RATE) - TONE).max() < 1e-4


def test_samples_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidMedia, match="NaN"):
        read_audio(files.recording(np.array([0.0, np.nan]), RATE, "WAV", "FLOAT"), RATE)


def test_a_rate_nobody_records_at_is_refused() -> None:
    with pytest.raises(InvalidMedia, match="1,000 to 768,000"):
        read_audio(files.recording(TONE, 10, "WAV"), RATE)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (files.recording(np.zeros(0), RATE, "WAV"), "no samples"),
        (b"%PDF-1.4", "a PDF document, not a recording; send a whole WAV"),
        (b"RIFF\xff\xff\xff\xffWAVEjunk", "broken or cut short"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "plain text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "plain text"),
    ],
)
def test_what_is_no_recording_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InvalidMedia, match=words):
        read_audio(data, RATE)


def test_a_playlist_opens_no_file(tmp_path: object) -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{tmp_path}/x.wav\n#EXT-X-ENDLIST\n".encode()
    with open(f"{tmp_path}/x.wav", "wb") as file:
        file.write(files.recording(TONE, RATE, "WAV"))
    with pytest.raises(InvalidMedia):
        read_audio(playlist, RATE)


ORIGINALS = [
    *(files.recording(TONE[:4000], RATE, format) for format in ("WAV", "FLAC", "OGG", "MP3")),
    files.encoded(files.tone(0.2, 48_000), 48_000, "ipod", "aac"),
    files.encoded(files.tone(0.2, 48_000), 48_000, "webm", "libopus"),
]


@given(st.sampled_from(ORIGINALS), st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=8))
def test_damaged_files_raise_nothing_else(data: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    try:
        seen = read_audio(bytes(damaged), RATE, most_seconds=20)
    except InvalidMedia:
        return
    assert seen.ndim == 1 and np.isfinite(seen).all()


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidMedia):
        read_audio(data, RATE)


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100])
@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus", "aac"])
def test_what_is_written_is_read_back_whole_or_streamed(format: str, rate: int) -> None:
    samples = files.tone(rate=rate)
    is_the_tone(read_audio(write_audio(samples, rate, format), rate), rate)
    writer = AudioWriter(format, rate)
    streamed = b"".join(writer.push(piece) for piece in np.array_split(samples, 7)) + writer.finish()
    is_the_tone(read_audio(streamed, rate), rate)


def test_bare_samples_are_written_as_they_are() -> None:
    assert write_audio(TONE, RATE, "pcm") == (TONE * 32768).round().astype("<i2").tobytes()
    writer = AudioWriter("pcm", RATE)
    assert writer.push(TONE) + writer.finish() == write_audio(TONE, RATE, "pcm")


def test_a_whole_wav_says_its_length() -> None:
    info = soundfile.info(BytesIO(write_audio(TONE, RATE, "wav")))
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (len(TONE), RATE, 1, "PCM_16")


@pytest.mark.parametrize("format", ["flac", "mp3", "opus", "aac"])
def test_an_encoder_gives_bytes_soon(format: str) -> None:
    """Half a second in, most of it is out: nobody waits for the end of a sentence to hear its beginning."""
    writer = AudioWriter(format, 24_000)
    head = b"".join(writer.push(files.tone(0.05, 24_000)) for _ in range(10))
    rest = writer.finish()
    assert len(head) > 0.5 * len(head + rest)
    with av.open(BytesIO(head)) as container:
        heard = sum(frame.samples for frame in container.decode(audio=0))
        assert heard / container.streams.audio[0].rate > 0.25


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="wav, pcm, flac, mp3, opus, aac"):
        AudioWriter("8-track", RATE)


def test_nothing_is_a_file_too() -> None:
    silence = np.zeros(0, np.float32)
    for format in ("wav", "flac", "mp3", "opus", "aac"):
        assert isinstance(write_audio(silence, RATE, format), bytes)


def test_the_tags_of_an_mp3_are_no_sound() -> None:
    plain = write_audio(TONE, RATE, "mp3")
    picture = b"APIC" + (5000).to_bytes(4) + b"\0\0" + bytes(5000)
    size = len(picture)
    tag = b"ID3\x03\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + picture
    tagged = read_audio(tag + plain + b"TAG" + b"A song".ljust(125, b"\0"), RATE)
    assert np.abs(tagged - read_audio(plain, RATE)[: len(tagged)]).max() < 1e-6
