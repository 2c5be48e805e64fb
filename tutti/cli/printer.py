"""An answer on the terminal while it comes: thinking set apart, lines broken between words.

Owns how text looks; knows nothing of requests. Plain text goes out unchanged where output is no terminal.
"""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from rich.cells import cell_len

_GREY, _PLAIN = "\x1b[90m", "\x1b[0m"


class WordWrap:
    """Breaks streamed text between words at `width` columns.

    A word is printed as it comes; when it turns out not to fit it is erased and printed on the next line. Wide
    characters (Chinese, Japanese, Korean) take two columns and allow a break anywhere.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._column = 0
        self._word = ""

    def push(self, text: str) -> str:
        """What to write for `text`."""
        return "".join(self._character(character) for character in text)

    def _character(self, character: str) -> str:
        if character == "\n":
            return self._new_line()
        size = cell_len(character)
        before = ""
        if self._column + size > self.width:
            if character == " ":  # the break itself
                return self._new_line()
            before = self._break_line() if size == 1 else self._new_line()
        self._column += size
        self._word = "" if character == " " or size > 1 else self._word + character
        return before + character

    def _break_line(self) -> str:
        """Start a line with the word that is being written, unless it fills a whole line by itself."""
        length = cell_len(self._word)
        if length in (0, self._column):
            return self._new_line()
        self._column = length
        return f"\x1b[{length}D\x1b[K\n{self._word}"

    def _new_line(self) -> str:
        self._column, self._word = 0, ""
        return "\n"


class Printer:
    """Writes one answer. `width` is the terminal's columns, or None to break no lines."""

    def __init__(self, out: TextIO, *, width: int | None, colour: bool, hide_thinking: bool = False) -> None:
        self._out = out
        self._wrap = None if width is None else WordWrap(width)
        self._colour = colour
        self._hide = hide_thinking
        self._thinking = False
        self._started = False
        self._at_start = False  # whether a line has just begun
        self.used = False  # whether anything was written

    def thinking(self, text: str) -> None:
        """A piece of the model's thinking."""
        if self._hide or (not self._thinking and not text.strip()):
            return
        if not self._thinking:
            self._thinking = True
            self._write(f"{_GREY if self._colour else ''}Thinking...\n")
            text = text.lstrip("\n")
        self._write(text)

    def answer(self, text: str) -> None:
        """A piece of the answer itself."""
        if self._thinking:
            self._end_thinking()
        if not self._started:  # templates often begin an answer with empty lines
            text = text.lstrip("\n")
            self._started = bool(text)
        self._write(text)

    def end(self) -> None:
        """The answer is over, or was interrupted."""
        self.pause()

    def pause(self) -> None:
        """Something else comes, on a line of its own."""
        if self._thinking:
            self._end_thinking()
        if not self._at_start:
            self._write("\n")
        self._at_start = True

    def _end_thinking(self) -> None:
        self._thinking = False
        self._write("\n...done thinking.\n\n")
        if self._colour:
            self._out.write(_PLAIN)

    def _write(self, text: str) -> None:
        self.used = self.used or bool(text)
        self._at_start = self._at_start and not text
        self._out.write(text if self._wrap is None else self._wrap.push(text))
        self._out.flush()


def terminal_printer(*, wrap: bool, hide_thinking: bool) -> Printer:
    """A printer on standard output, as that is a terminal or not."""
    terminal = sys.stdout.isatty()
    # The last column stays free: a cursor that waits there moves back differently from terminal to terminal.
    width = shutil.get_terminal_size().columns - 1 if terminal and wrap else None
    return Printer(sys.stdout, width=width, colour=terminal, hide_thinking=hide_thinking)
