"""Bare samples: 16-bit PCM goes there and back exactly, and G.711 is what libsndfile and FFmpeg say it is."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tutti.errors import InvalidMedia
from tutti.media.audio import from_alaw, from_pcm16, from_ulaw, to_alaw, to_pcm16, to_ulaw

BYTES = bytes(range(256))
INTEGERS = np.arange(-32768, 32768).astype("<i2").tobytes()


def raw(data: bytes, subtype: str) -> np.ndarray:
    """What libsndfile makes of such bytes."""
    return soundfile.read(
        BytesIO(data), format="RAW", samplerate=8000, channels=1, subtype=subtype, dtype="float32"
    )[0]


@given(st.binary(max_size=400).filter(lambda data: len(data) % 2 == 0))
def test_sixteen_bits_there_and_back(data: bytes) -> None:
    assert to_pcm16(from_pcm16(data)) == data


def test_every_sixteen_bit_value_is_in_range_and_what_libsndfile_reads() -> None:
    samples = from_pcm16(INTEGERS)
    assert samples.dtype == np.float32 and samples.min() == -1 and samples.max() < 1
    assert (samples == raw(INTEGERS, "PCM_16")).all()


def test_too_loud_samples_are_clipped() -> None:
    assert np.frombuffer(to_pcm16(np.array([2.0, 1.0, -1.0, -9.0])), "<i2").tolist() == [
        32767,
        32767,
        -32768,
        -32768,
    ]


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(InvalidMedia, match="3 bytes"):
        from_pcm16(b"abc")


@pytest.mark.parametrize(("decode", "subtype"), [(from_ulaw, "ULAW"), (from_alaw, "ALAW")])
def test_every_code_means_what_libsndfile_says(decode: object, subtype: str) -> None:
    assert callable(decode)
    assert (decode(BYTES) == raw(BYTES, subtype)).all()


@pytest.mark.parametrize(
    ("encode", "decode", "twins"), [(to_ulaw, from_ulaw, {0x7F: 0xFF}), (to_alaw, from_alaw, {})]
)
def test_every_code_goes_there_and_back(encode: object, decode: object, twins: dict[int, int]) -> None:
    assert callable(encode) and callable(decode)  # mu-law has two codes for zero
    assert encode(decode(BYTES)) == bytes(twins.get(code, code) for code in BYTES)


@given(st.lists(st.floats(-1, 1, width=32), max_size=50))
def test_telephone_codes_keep_a_sample_within_a_thirtieth(values: list[float]) -> None:
    samples = np.array(values, np.float32)
    for decoded in (from_ulaw(to_ulaw(samples)), from_alaw(to_alaw(samples))):
        assert (np.abs(decoded - samples) <= np.abs(samples) / 30 + 1 / 1024).all()
