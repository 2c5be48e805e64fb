"""Sizes, times and tables are worded as Ollama's."""

from __future__ import annotations

import pytest

from tutti.cli.wording import ago, duration_of, section, size_of, table, until

HOUR, DAY = 3600, 24 * 3600


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1500, "1.5 KB"), (637_700_138, "637 MB"),
        (2_019_393_189, "2.0 GB"), (2_000_000_000, "2 GB"), (4_661_224_676, "4.7 GB"), (39_969_745_349, "39 GB"),
    ],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size_of(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"), (1.5, "1 second"), (59, "59 seconds"), (61, "About a minute"),
        (4 * 60, "4 minutes"), (3500, "58 minutes"), (HOUR, "About an hour"), (47 * HOUR, "47 hours"),
        (3 * DAY, "3 days"), (20 * DAY, "2 weeks"), (90 * DAY, "3 months"), (900 * DAY, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_of(seconds) == text


def test_before_and_after() -> None:
    assert ago(0, 300) == "5 minutes ago"
    assert ago(300, 0) == "5 minutes from now"


def test_columns_stand_below_each_other() -> None:
    assert table(("NAME", "ID"), [("a", "1"), ("longer", "22")]) == "NAME      ID\na         1\nlonger    22"
    assert table(("NAME", "ID"), []) == "NAME    ID"


def test_when_a_model_is_dropped() -> None:
    assert until(240, 0) == "4 minutes from now"
    assert until(20 * 365 * DAY, 0) == "20 years from now"
    assert until(292 * 365 * DAY, 0) == "Forever"
    assert until(0, 1) == "Stopping..."


def test_rows_of_a_section_may_differ_in_length() -> None:
    assert section("Model", [("stop", "a"), ("word",)]) == "  Model\n    stop    a\n    word"
    assert section("None", []) == "  None"
