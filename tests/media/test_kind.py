"""A file's kind is read off its first bytes, and said in words a person understands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.media import files
from tutti.media.kind import describe, sniff


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_pictures_are_known(format: str) -> None:
    kind = {"JPEG2000": "image/jp2"}.get(format, f"image/{format.lower()}")
    assert sniff(files.saved(Image.fromarray(files.picture()), format)) == kind


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("WAV", "audio/wav"),
        ("FLAC", "audio/flac"),
        ("OGG", "audio/ogg"),
        ("MP3", "audio/mpeg"),
        ("AIFF", "audio/aiff"),
    ],
)
def test_recordings_are_known(format: str, kind: str) -> None:
    assert sniff(files.recording(files.tone(), 16_000, format)) == kind


@pytest.mark.parametrize(
    ("container", "codec", "kind"),
    [
        ("ipod", "aac", "audio/mp4"),
        ("adts", "aac", "audio/aac"),
        ("webm", "libopus", "video/webm"),
        ("ogg", "libopus", "audio/ogg"),
    ],
)
def test_what_ffmpeg_writes_is_known(container: str, codec: str, kind: str) -> None:
    assert sniff(files.encoded(files.tone(rate=48_000), 48_000, container, codec)) == kind


@pytest.mark.parametrize(
    ("container", "kind"),
    [("mp4", "video/mp4"), ("mov", "video/quicktime"), ("matroska", "video/webm"), ("mpegts", "video/mp2t")],
)
def test_videos_are_known(container: str, kind: str) -> None:
    assert sniff(files.video(3, container=container)) == kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b'{"error": "not found"}', "JSON"),
        ("Grüße".encode(), "plain text"),
        (b"\x00\x01\x02\x03", "of no kind known here (it begins with the bytes 00 01 02 03)"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a WAV recording"),
        (b"\0\0\0\x18ftypmp42", "an MP4 video"),
    ],
)
def test_a_kind_is_said_in_words(data: bytes, words: str) -> None:
    assert describe(data) == words


@given(st.binary(max_size=300))
def test_any_bytes_have_a_description(data: bytes) -> None:
    assert describe(data)
