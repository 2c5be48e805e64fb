"""Media that take a while are named on the terminal, until something comes."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from tutti.cli.attach import content_of
from tutti.cli.waiting import Waiting, described, waiting
from tutti.request import Media


def test_files_are_named_with_their_size() -> None:
    part = {"type": "audio", "media": Media("audio", bytes(2_500_000)), "name": "talk.mp3"}
    assert described([{"content": "hello"}, {"content": [part]}]) == "talk.mp3 (2.5 MB)"
    assert described([{"content": [part, part]}]) == "talk.mp3, talk.mp3 (5 MB)"
    assert described([{"content": [part] * 4}]) == "4 files (10 MB)"
    assert described([{"content": "hello"}]) == ""


def test_a_picture_keeps_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + bytes(64))
    content = content_of(str(tmp_path / "a.gif"), frozenset({"image"}))
    assert isinstance(content, list) and content[0]["name"] == "a.gif"


async def test_the_sign_shows_after_a_while_and_leaves_nothing() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=60)
    quick = Waiting(console, "reading talk.mp3 (2.5 MB)", patience=60)
    quick.end()
    assert shown.getvalue() == ""
    sign = Waiting(console, "reading talk.mp3 (2.5 MB)", patience=0)
    async with asyncio.timeout(10):
        while "reading talk.mp3 (2.5 MB)" not in shown.getvalue():
            await asyncio.sleep(0.01)
    sign.end()
    assert shown.getvalue().endswith("\x1b[2K")  # the line is wiped


def test_nothing_shows_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    part = {"type": "audio", "media": Media("audio", b""), "name": "talk.mp3"}
    with waiting([{"content": [part]}]) as sign:  # standard error is no terminal here
        assert sign is None
