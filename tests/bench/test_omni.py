"""The benchmark of speech: its files, and its tables from what the children print."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.omni.__main__ import TABLES
from bench.omni.media import RATE, make_file, picture
from tutti.media.audio import read_audio
from tutti.media.video import read_video


@pytest.mark.parametrize(("kind", "seconds"), [("recording", 3.0), ("video", 2.0)])
def test_the_long_media_are_files_that_can_be_read(tmp_path: Path, kind: str, seconds: float) -> None:
    data = make_file(tmp_path, kind, seconds).read_bytes()
    assert make_file(tmp_path, kind, seconds).read_bytes() == data  # made once
    if kind == "recording":
        assert len(read_audio(data, RATE)) == seconds * RATE
    else:
        assert read_video(data).seconds == pytest.approx(seconds, abs=0.2)


def test_pictures_differ() -> None:
    assert picture(1).shape == (480, 640, 3) and (picture(1) != picture(2)).any()


def test_the_tables_show_medians_and_what_is_saved() -> None:
    memory = [
        {"kind": "video", "peer": peer, "peak_bytes": size * 10**9, "answer_s": 3.0, "prompt_tokens": 900}
        for peer, sizes in (("tutti", (1, 2, 9)), ("transformers", (4, 4, 5)))
        for size in sizes
    ]
    assert "| video | 900 | 2.00 GB | 4.00 GB | 50% | 3.0 | 3.0 |" in TABLES["memory"](memory)
    names = ("first_s", "second_s", "second_read_s", "text_first_s", "text_second_s")
    turns = [dict(zip(names, (0.5, 0.07, 0.01, 0.2, 0.06), strict=True))]
    assert "| about a picture | 500 | 70 | 10 |" in TABLES["turns"](turns)
