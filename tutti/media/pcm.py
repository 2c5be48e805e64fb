"""Samples as bare bytes: 16-bit PCM, and the two telephone codes of ITU-T G.711. Samples are float32 in [-1, 1]."""

from __future__ import annotations

from functools import cache

import numpy as np

from tutti.errors import InvalidMedia

_ULAW_BIAS = 132
_ULAW_MOST = 32635


def to_pcm16(samples: np.ndarray) -> bytes:
    """float32 [samples] as 16-bit little-endian integers; what is louder than full scale is clipped.

    Of [samples, channels], one sample of each channel in turn.
    """
    return _integers(samples).astype("<i2").tobytes()


def from_pcm16(data: bytes) -> np.ndarray:
    """The inverse, exactly. Raises InvalidMedia on half a sample."""
    if len(data) % 2:
        raise InvalidMedia(
            f"16-bit samples take two bytes each, but {len(data):,} bytes came: send whole samples"
        )
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def to_ulaw(samples: np.ndarray) -> bytes:
    """float32 [samples] in the mu-law code of G.711, a byte each."""
    values = _integers(samples)
    size = np.minimum(np.abs(values), _ULAW_MOST) + _ULAW_BIAS
    segment = _bits(size) - 8
    code = np.where(values < 0, 0x80, 0) | segment << 4 | (size >> (segment + 3)) & 0x0F
    return (~code & 0xFF).astype(np.uint8).tobytes()


def from_ulaw(data: bytes) -> np.ndarray:
    """Mu-law bytes as float32 [samples]."""
    return _ulaw_table()[np.frombuffer(data, np.uint8)]


def to_alaw(samples: np.ndarray) -> bytes:
    """float32 [samples] in the A-law code of G.711, a byte each."""
    values = _integers(samples) >> 3
    size = np.where(values < 0, ~values, values)
    segment = np.maximum(_bits(size) - 5, 0)
    code = segment << 4 | (size >> np.maximum(segment, 1)) & 0x0F
    return (code ^ np.where(values < 0, 0x55, 0xD5)).astype(np.uint8).tobytes()


def from_alaw(data: bytes) -> np.ndarray:
    """A-law bytes as float32 [samples]."""
    return _alaw_table()[np.frombuffer(data, np.uint8)]


def _integers(samples: np.ndarray) -> np.ndarray:
    """Samples as int32 in the range of 16 bits."""
    return np.clip(np.rint(np.asarray(samples, np.float32) * 32768), -32768, 32767).astype(np.int32)


def _bits(values: np.ndarray) -> np.ndarray:
    """How many bits each of these non-negative integers takes."""
    return np.frexp(values.astype(np.float32))[1]


@cache
def _ulaw_table() -> np.ndarray:
    code = ~np.arange(256) & 0xFF
    size = (((code & 0x0F) << 3) + _ULAW_BIAS << (code >> 4 & 7)) - _ULAW_BIAS
    return (np.where(code & 0x80, -size, size) / 32768).astype(np.float32)


@cache
def _alaw_table() -> np.ndarray:
    code = np.arange(256) ^ 0x55
    segment = code >> 4 & 7
    size = ((code & 0x0F) << 4) + np.where(segment > 0, 0x108, 8) << np.maximum(segment - 1, 0)
    return (np.where(code & 0x80, size, -size) / 32768).astype(np.float32)
