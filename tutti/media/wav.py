"""The header of a WAV file (RIFF/WAVE): writing one, also before the length is known, and what one promises."""

from __future__ import annotations

import struct

_STREAMED = 0x7FFF_F000  # sizes from here on are what programs write that did not know the length


def wav_header(rate: int, channels: int = 1, size: int | None = None) -> bytes:
    """The 44 bytes before `size` bytes of 16-bit samples; None: of a stream without a known end (0xFFFFFFFF)."""
    data = 0xFFFF_FFFF if size is None else size
    riff = 0xFFFF_FFFF if size is None else size + 36
    frame = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame, frame, 16)
    return (
        b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", data)
    )


def wav_file(data: bytes, rate: int, channels: int = 1, note: str = "") -> bytes:
    """A file of `data`, 16-bit samples; a `note` follows them, as the comment of a list of information."""
    comment = note.encode() + b"\0"
    listed = b"INFOICMT" + struct.pack("<I", len(comment)) + comment + b"\0" * (len(comment) % 2)
    more = b"LIST" + struct.pack("<I", len(listed)) + listed if note else b""
    header = bytearray(wav_header(rate, channels, len(data)))
    header[4:8] = struct.pack("<I", len(data) + 36 + len(more))
    return bytes(header) + data + more


def promised(data: bytes) -> tuple[int, int] | None:
    """(bytes of samples that the header of a WAV file announces, bytes that are there); None where it does not say."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8
        if name == b"data":
            return None if size == 0 or size >= _STREAMED else (size, len(data) - place)
        place += size + size % 2
    return None
