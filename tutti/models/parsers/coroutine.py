"""The frame of a parser written as a coroutine: what comes in, what goes out, and how a tool call is emitted."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable
from typing import ClassVar

from tutti.models.parsers.base import ContentDelta, Delta, ReasoningDelta, ToolCallDelta, join
from tutti.models.parsers.reader import Characters, Malformed, Reading, read_object, read_text, read_value

_ALPHABET = string.ascii_letters + string.digits


def new_call_id() -> str:
    """A fresh id: `call_` and 24 letters and digits, as OpenAI's."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


class CoroutineParser:
    """A parser whose `read` consumes `chars` and emits through `content`, `reasoning` and the call methods.

    `marks` are the strings its syntax is made of; the decoder must not skip those that are special tokens.
    """

    marks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, new_id: Callable[[], str] = new_call_id, needs_special_tokens: bool = False) -> None:
        self.needs_special_tokens = needs_special_tokens
        self.chars = Characters()
        self.calls = 0
        self._new_id = new_id
        self._id = ""
        self._deltas: list[Delta] = []
        self._space = ""  # white space of content, held: before a call it is syntax
        self._reading = self.read()
        next(self._reading)

    def read(self) -> Reading[None]:
        """Reads all of the answer."""
        raise NotImplementedError

    def push(self, text: str) -> list[Delta]:
        """The deltas that `text` settles."""
        self.chars.add(text)
        next(self._reading)
        return self._taken()

    def finish(self) -> list[Delta]:
        """The rest."""
        self.chars.end()
        for _ in self._reading:  # it waits for nothing now, so this ends at once
            pass
        if not self.calls:
            self._deltas.append(ContentDelta(self._space))
        return self._taken()

    def _taken(self) -> list[Delta]:
        deltas, self._deltas = self._deltas, []
        return join(deltas)

    def content(self, text: str) -> None:
        """Emits content; all that was read is settled."""
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        self._deltas.append(ContentDelta(kept))
        self.chars.settle()

    def reasoning(self, text: str) -> None:
        """Emits reasoning; all that was read is settled."""
        self._deltas.append(ReasoningDelta(text))
        self.chars.settle()

    def give_back(self) -> None:
        """Emits what was read and led nowhere as content."""
        self.content(self.chars.unsettled())

    def begin_call(self, name: str) -> None:
        """Emits the name of the next call."""
        self._space = ""
        self._id = self._new_id()
        self._deltas.append(ToolCallDelta(self.calls, self._id, name))
        self.calls += 1
        self.chars.settle()

    def arguments(self, text: str) -> None:
        """Emits more of the current call's arguments."""
        self._deltas.append(ToolCallDelta(self.calls - 1, self._id, arguments=text))
        self.chars.settle()

    def content_until(self, *marks: str) -> Reading[str]:
        """Emits content up to one of `marks`, which is taken but not settled; "" at the end of the text."""
        harmless = re.compile(f"[^{re.escape(''.join({mark[0] for mark in marks}))}]+")
        while (yield from self.chars.peek()):
            plain = self.chars.take(harmless)
            if plain:
                self.content(plain)
                continue
            for mark in marks:
                if (yield from self.chars.match(mark)):
                    return mark
            sign = yield from self.chars.peek()
            self.chars.position += 1
            self.content(sign)
        return ""

    def rest_is_content(self) -> Reading[None]:
        """Emits everything that still comes as content."""
        everything = re.compile(r"(?s).+")
        while (yield from self.chars.peek()):
            self.content(self.chars.take(everything))

    def named_call(self, name: str) -> Reading[None]:
        """The arguments object of the call `name`, whose name comes out when the object begins. Raises Malformed."""
        if (yield from self.chars.peek()) != "{":
            raise Malformed
        self.begin_call(name)
        yield from read_object(self.chars, self.arguments)

    def call_object(self, accepts: Callable[[str], bool] = bool) -> Reading[None]:
        """A call as `{"name": ..., "arguments": {...}}`, in any order, `parameters` meaning the same.

        Raises Malformed, before anything is emitted when there is no name that `accepts` likes.
        """
        chars = self.chars
        name: str | None = None
        held: list[str] = []
        begun = arguments_seen = False
        yield from chars.expect("{")
        sign = yield from chars.space()
        while sign != "}":
            key = yield from read_text(chars)
            yield from chars.space()
            yield from chars.expect(":")
            yield from chars.space()
            if key == "name" and name is None:
                name = yield from read_text(chars)
                if not accepts(name):
                    raise Malformed
            elif key in ("arguments", "parameters") and not arguments_seen:
                arguments_seen = True
                if name is not None and (yield from chars.peek()) == "{":
                    begun = True
                    yield from self.named_call(name)
                else:
                    yield from self._held_arguments(held)
            else:
                yield from read_value(chars, lambda text: None)
            sign = yield from chars.space()
            if sign != "}":
                yield from chars.expect(",")
                sign = yield from chars.space()
        chars.position += 1
        if name is None:
            raise Malformed
        if not begun:
            self.begin_call(name)
            self.arguments("".join(held) or "{}")
        chars.settle()

    def _held_arguments(self, held: list[str]) -> Reading[None]:
        """Arguments that cannot be streamed: before the name, or as JSON text in a string, or null."""
        sign = yield from self.chars.peek()
        if sign == "{":
            yield from read_object(self.chars, held.append)
        elif sign == "n":
            yield from self.chars.expect("null")
        else:
            text = yield from read_text(self.chars)
            held.append(text)
            try:
                whole = json.loads(text)
            except ValueError as error:
                raise Malformed from error
            if not isinstance(whole, dict):
                raise Malformed
