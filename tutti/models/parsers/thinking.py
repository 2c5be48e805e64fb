"""Reasoning between `<think>` and `</think>` at the beginning of an answer (DeepSeek-R1, Qwen3 and their kin).

Where the chat template already wrote `<think>`, the answer starts inside. White space around the tags is syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tutti.models.parsers.coroutine import CoroutineParser, new_call_id
from tutti.models.parsers.reader import Reading

OPEN, CLOSE = "<think>", "</think>"
_SPACE_OR_TEXT = re.compile(r"\s+|[^<\s]+")


def inside_thinking(prompt: str) -> bool:
    """Whether the template opened a thought at the end of `prompt`. (A tag elsewhere may be a user's words.)"""
    return prompt.rstrip().endswith(OPEN)


def unfinished_thought(answer: str) -> bool:
    """Whether `answer`, which is to be continued, stops inside a thought."""
    return answer.rfind(OPEN) > answer.rfind(CLOSE)


class ThinkingParser(CoroutineParser):
    """Reads one thought, then content."""

    marks = (OPEN, CLOSE)

    def __init__(
        self, inside: bool, new_id: Callable[[], str] = new_call_id, needs_special_tokens: bool = False
    ) -> None:
        self._inside = inside
        super().__init__(new_id, needs_special_tokens)

    def read(self) -> Reading[None]:
        """A thought, if there is one, then content."""
        yield from self.chars.space()
        if (yield from self.chars.match(OPEN)) or self._inside:
            self.chars.settle()
            yield from self._thought()
            yield from self.chars.space()
            self.chars.settle()
        else:
            self.give_back()
        yield from self.rest_is_content()

    def _thought(self) -> Reading[None]:
        held = ""
        begun = False
        while sign := (yield from self.chars.peek()):
            if sign == "<" and (yield from self.chars.match(CLOSE)):
                break
            text = self.chars.take(_SPACE_OR_TEXT)
            if not text:  # a "<" that opens no tag
                text = sign
                self.chars.position += 1
            if text.isspace():
                held += text
            else:
                self.reasoning(held + text if begun else text)
                begun, held = True, ""
        self.chars.settle()
