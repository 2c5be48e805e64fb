"""Text on a terminal: broken between words, thinking set apart, nothing lost."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tutti.cli.printer import Printer, WordWrap


def screen(written: str) -> list[str]:
    """The lines a terminal shows after `written`: understands newline, "n columns back" and "erase to the end"."""
    lines = [""]
    for part in re.split(r"(\x1b\[\d*[DK]|\n)", written):
        if part == "\n":
            lines.append("")
        elif match := re.fullmatch(r"\x1b\[(\d*)D", part):
            lines[-1] = lines[-1][: len(lines[-1]) - int(match[1])]
        elif part != "\x1b[K":
            lines[-1] += part
    return lines


def split(text: str, places: list[int]) -> list[str]:
    cuts = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


words = st.text(alphabet="ab语 \n", max_size=60)


@given(words, st.integers(4, 20), st.lists(st.integers(0, 100), max_size=8))
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(
    text: str, width: int, places: list[int]
) -> None:
    wrap = WordWrap(width)
    shown = screen("".join(wrap.push(piece) for piece in split(text, places)))
    assert all(cell_len(line) <= width for line in shown)
    assert "".join("".join(shown).split()) == "".join(text.split())


def test_a_word_that_does_not_fit_moves_to_the_next_line() -> None:
    assert screen(WordWrap(10).push("hello wonderful world")) == ["hello ", "wonderful ", "world"]


def test_a_word_longer_than_a_line_is_cut() -> None:
    assert screen(WordWrap(4).push("abcdefghij")) == ["abcd", "efgh", "ij"]


def test_chinese_breaks_anywhere() -> None:
    assert screen(WordWrap(5).push("一二三四五")) == ["一二", "三四", "五"]


def test_thinking_is_set_apart_and_can_be_hidden() -> None:
    for hide, expected in (
        (False, "Thinking...\nwell\n...done thinking.\n\nfive\n"),
        (True, "five\n"),
    ):
        out = io.StringIO()
        printer = Printer(out, width=None, colour=False, hide_thinking=hide)
        printer.thinking("\n")
        printer.thinking("well")
        printer.answer("\n\nfive")
        printer.end()
        assert out.getvalue() == expected


def test_an_interrupted_thought_is_closed() -> None:
    out = io.StringIO()
    printer = Printer(out, width=None, colour=False)
    printer.thinking("well")
    printer.end()
    assert out.getvalue().startswith("Thinking...\nwell\n...done thinking.")
