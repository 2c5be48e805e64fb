"""Frames to films: what a player shows is what was filmed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tutti.media.container import read_note
from tutti.media.film import FilmWriter, still, write_film
from tutti.media.video import read_video

# A colour for each frame, and a brightness from left to right.
FRAMES = np.stack(
    [
        np.linspace(40, 220, 48)[None, :, None].repeat(32, 0) * np.array([1, k / 8, 1 - k / 8])
        for k in range(9)
    ]
).astype(np.uint8)


def test_a_film_has_its_frames_at_their_rate() -> None:
    film = write_film(FRAMES, 8.0)
    with av.open(BytesIO(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", 8, 9)
    video = read_video(film, fps=8)
    assert video.frames.shape == FRAMES.shape
    assert np.abs(video.frames.astype(int) - FRAMES).mean() < 4


def test_the_first_frame_is_a_picture() -> None:
    picture = Image.open(BytesIO(still(write_film(FRAMES, 8.0))))
    assert picture.format == "WEBP"
    assert np.abs(np.asarray(picture).astype(int) - FRAMES[0]).mean() < 6


def test_a_film_says_how_it_was_made() -> None:
    assert read_note(write_film(FRAMES, 8.0, '{"prompt": "ein Bär"}')) == '{"prompt": "ein Bär"}'
    assert read_note(write_film(FRAMES, 8.0)) == ""


def test_a_film_is_written_while_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    writer = FilmWriter(path, 29.97)
    for start in range(0, 9, 2):
        writer.push(FRAMES[start : start + 2])
    writer.finish()
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 9
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(29.97, abs=0.001)
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # it can play while it loads


def test_where_there_is_no_h264_a_film_is_mpeg4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    film = write_film(FRAMES, 8.0)
    with av.open(BytesIO(film)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert np.abs(read_video(film, fps=8).frames.astype(int) - FRAMES).mean() < 6
