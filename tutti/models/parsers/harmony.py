"""The harmony format of gpt-oss: messages with a channel and a recipient.

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>commentary to=functions.f
    <|constrain|>json<|message|>{...}<|call|>

`analysis` is reasoning, `final` and `commentary` without a recipient are content, `to=functions.NAME` is a tool call;
messages to built-in tools count as reasoning. Source: OpenAI's "harmony response format" guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tutti.models.parsers.coroutine import CoroutineParser, new_call_id
from tutti.models.parsers.reader import Malformed, Reading

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
END, CALL, RETURN = "<|end|>", "<|call|>", "<|return|>"
_ENDS = (END, CALL, RETURN, START)
_BODY = re.compile(r"[^<]+")
_RECIPIENT = re.compile(r"\bto=(\S+)")
_LONGEST_HEADER = 400


class HarmonyParser(CoroutineParser):
    """Reads messages; text that is in none is content. Without `tools`, calls come out as content too."""

    marks = (START, CHANNEL, CONSTRAIN, MESSAGE, END, CALL, RETURN)

    def __init__(
        self, tools: bool, new_id: Callable[[], str] = new_call_id, needs_special_tokens: bool = False
    ) -> None:
        self._tools = tools
        super().__init__(new_id, needs_special_tokens)

    def read(self) -> Reading[None]:
        """Messages until the end."""
        while (yield from self.chars.peek()):
            if not (yield from self._at_header()):
                yield from self._body(self.content)
                continue
            try:
                header = yield from self._header()
            except Malformed:
                self.give_back()
                yield from self._body(self.content)
                continue
            yield from self._message(header)

    def _at_header(self) -> Reading[bool]:
        """Whether a header comes next. The prompt ends with `<|start|>assistant`, so an answer begins inside one."""
        start = self.chars.position
        for mark in (CHANNEL, " to=", MESSAGE, CONSTRAIN):
            if (yield from self.chars.match(mark)):
                self.chars.rewind(start)
                return True
        yield from self.chars.space()  # between messages it is nothing
        if (yield from self.chars.match(START)):
            self.chars.rewind(self.chars.position - len(START))
            self.chars.settle()
            return True
        self.chars.rewind(start)
        return False

    def _header(self) -> Reading[str]:
        """All up to `<|message|>`, which is taken and settled. Raises Malformed when it is missing."""
        header = ""
        while sign := (yield from self.chars.peek()):
            if sign == "<" and (yield from self.chars.match(MESSAGE)):
                self.chars.settle()
                return header
            text = self.chars.take(_BODY)
            if not text:
                text = sign
                self.chars.position += 1
            header += text
            if len(header) > _LONGEST_HEADER:
                break
        raise Malformed

    def _message(self, header: str) -> Reading[None]:
        recipient = _RECIPIENT.search(header)
        channel = header.partition(CHANNEL)[2].lstrip()
        if recipient is not None and recipient[1].startswith("functions."):
            name = recipient[1].removeprefix("functions.").partition("<")[0]
            if self._tools and name:
                yield from self._call(name)
            else:
                yield from self._body(self.content)
        elif channel.startswith("analysis") or recipient is not None:
            yield from self._body(self.reasoning)
        else:
            yield from self._body(self.content)

    def _call(self, name: str) -> Reading[None]:
        try:
            yield from self.chars.space()
            yield from self.named_call(name)
            yield from self.chars.space()
            self.chars.settle()
        except Malformed:
            self.give_back()
        yield from self._body(self.content)

    def _body(self, emit: Callable[[str], None]) -> Reading[None]:
        """Emits up to the end of the message."""
        while sign := (yield from self.chars.peek()):
            text = self.chars.take(_BODY)
            if text:
                emit(text)
                continue
            for mark in _ENDS:
                start = self.chars.position
                if (yield from self.chars.match(mark)):
                    if mark == START:
                        self.chars.rewind(start)
                    self.chars.settle()
                    return
            self.chars.position += 1
            emit(sign)
