"""Reading a text that is still arriving: characters for coroutines, and JSON over them.

A parser is a generator that reads as if the whole text were there; where it is not yet, it yields and goes on when
more has come. That it sees characters, never pieces, is why its results cannot depend on the split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import TypeVar

Result = TypeVar("Result")
Reading = Generator[None, None, Result]
Emit = Callable[[str], None]

DEEPEST = 100  # levels of JSON inside JSON; deeper text is no tool call

_SPACE = re.compile(r"[ \t\r\n]+")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')  # what a JSON string holds as it is
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER_SIGNS = frozenset("+-.eE0123456789")
_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Malformed(Exception):
    """The text is not of the syntax that was expected here (or ended within it)."""


class Characters:
    """Text that arrives. Positions count from the beginning of all of it; text before `settle` is forgotten."""

    def __init__(self) -> None:
        self._text = ""
        self._base = 0  # position of _text[0]
        self._settled = 0
        self._ended = False
        self.position = 0  # of the next character

    def add(self, text: str) -> None:
        """More text."""
        self._text = self._text[self._settled - self._base :] + text
        self._base = self._settled

    def end(self) -> None:
        """No more text will come."""
        self._ended = True

    def settle(self) -> None:
        """What was read so far is dealt with."""
        self._settled = self.position

    def unsettled(self) -> str:
        """What was read and not dealt with."""
        return self._text[self._settled - self._base : self.position - self._base]

    def rewind(self, position: int) -> None:
        """Reads on from `position`, which must not be settled."""
        self.position = position

    def peek(self) -> Reading[str]:
        """The next character, not taken; "" at the end of the text."""
        while self.position - self._base == len(self._text):
            if self._ended:
                return ""
            yield
        return self._text[self.position - self._base]

    def take(self, pattern: re.Pattern[str]) -> str:
        """Takes what `pattern` matches of the text that is there already, perhaps nothing."""
        match = pattern.match(self._text, self.position - self._base)
        if match is None:
            return ""
        self.position += len(match[0])
        return match[0]

    def match(self, word: str) -> Reading[bool]:
        """Takes `word` if it comes next."""
        start = self.position
        for sign in word:
            if (yield from self.peek()) != sign:
                self.rewind(start)
                return False
            self.position += 1
        return True

    def space(self) -> Reading[str]:
        """Takes white space; the next character, not taken."""
        while (yield from self.peek()) and self.take(_SPACE):
            pass
        return (yield from self.peek())

    def expect(self, word: str) -> Reading[None]:
        """Takes `word`. Raises Malformed when something else comes."""
        if not (yield from self.match(word)):
            raise Malformed


def read_string(chars: Characters, emit: Emit) -> Reading[None]:
    """A JSON string; raw control characters, which models write and JSON forbids, are emitted escaped."""
    yield from chars.expect('"')
    emit('"')
    while (sign := (yield from chars.peek())) != '"':
        if not sign:
            raise Malformed
        plain = chars.take(_PLAIN)
        if plain:
            emit(plain)
        elif sign == "\\":
            emit((yield from _escape(chars)))
        else:
            chars.position += 1
            emit(_ESCAPED.get(sign) or f"\\u{ord(sign):04x}")
    chars.position += 1
    emit('"')


def _escape(chars: Characters) -> Reading[str]:
    chars.position += 1
    sign = yield from chars.peek()
    if not sign or sign not in '"\\/bfnrtu':
        raise Malformed
    chars.position += 1
    digits = ""
    for _ in range(4 if sign == "u" else 0):
        digit = yield from chars.peek()
        if not digit or digit not in "0123456789abcdefABCDEF":
            raise Malformed
        chars.position += 1
        digits += digit
    return f"\\{sign}{digits}"


def _gap(chars: Characters, emit: Emit) -> Reading[str]:
    """White space inside JSON, emitted; the next character."""
    start = chars.position
    sign = yield from chars.space()
    if chars.position > start:
        emit(" ")
    return sign


def read_value(chars: Characters, emit: Emit, depth: int = 0) -> Reading[None]:
    """Any JSON value, emitted as it comes (white space between its parts as one space). Raises Malformed."""
    sign = yield from chars.peek()
    if depth > DEEPEST or not sign:
        raise Malformed
    if sign == '"':
        yield from read_string(chars, emit)
    elif sign == "{":
        yield from read_object(chars, emit, depth)
    elif sign == "[":
        yield from _array(chars, emit, depth)
    elif sign in "tfn":
        word = {"t": "true", "f": "false", "n": "null"}[sign]
        yield from chars.expect(word)
        emit(word)
    else:
        number = ""
        while (sign := (yield from chars.peek())) and sign in _NUMBER_SIGNS:
            number += sign
            chars.position += 1
        if not _NUMBER.fullmatch(number):
            raise Malformed
        emit(number)


def read_object(chars: Characters, emit: Emit, depth: int = 0) -> Reading[None]:
    """A JSON object, emitted as it comes. Raises Malformed."""
    yield from chars.expect("{")
    emit("{")
    sign = yield from _gap(chars, emit)
    while sign != "}":
        yield from read_string(chars, emit)
        yield from _gap(chars, emit)
        yield from chars.expect(":")
        emit(":")
        yield from _gap(chars, emit)
        yield from read_value(chars, emit, depth + 1)
        sign = yield from _separator(chars, emit, "}")
    chars.position += 1
    emit("}")


def _array(chars: Characters, emit: Emit, depth: int) -> Reading[None]:
    yield from chars.expect("[")
    emit("[")
    sign = yield from _gap(chars, emit)
    while sign != "]":
        yield from read_value(chars, emit, depth + 1)
        sign = yield from _separator(chars, emit, "]")
    chars.position += 1
    emit("]")


def _separator(chars: Characters, emit: Emit, closing: str) -> Reading[str]:
    """Behind a member: the closing bracket (not taken), or a comma and the next member's first character."""
    sign = yield from _gap(chars, emit)
    if sign == closing:
        return sign
    yield from chars.expect(",")
    emit(",")
    sign = yield from _gap(chars, emit)
    if sign == closing:
        raise Malformed
    return sign


def read_text(chars: Characters) -> Reading[str]:
    """The value of a JSON string. Raises Malformed."""
    parts: list[str] = []
    yield from read_string(chars, parts.append)
    return str(json.loads("".join(parts)))
