"""One logging set-up: text for people, JSON by flag."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from tutti import logs
from tutti.errors import ConfigError


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("tutti").level
    yield
    root.handlers[:], root.level = before[0], before[1]
    logging.getLogger("tutti").setLevel(before[2])


def test_text_lines_name_the_room_and_the_level_from_warning_on() -> None:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    logging.getLogger("tutti.engine").info("plan fits")
    logging.getLogger("tutti.engine").debug("not shown")
    logging.getLogger("tutti.hub").warning("slow %s", "disk")
    first, second = stream.getvalue().splitlines()
    assert first.endswith("engine: plan fits")
    assert second.endswith("hub: warning: slow disk")


def test_json_lines_carry_extras_and_tracebacks() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("tutti.api").exception("failed", extra={"request": "r1"})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    said = {name: entry[name] for name in ("level", "logger", "message", "request")}
    assert said == {"level": "error", "logger": "tutti.api", "message": "failed", "request": "r1"}
    assert "ValueError" in entry["traceback"]


def test_libraries_speak_from_warning_on() -> None:
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    logging.getLogger("somelibrary").info("chatter")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("level", "form"), [("loud", "text"), ("info", "xml")])
def test_an_unknown_level_or_format_is_a_typed_error(level: str, form: str) -> None:
    with pytest.raises(ConfigError):
        logs.configure(level, form)
