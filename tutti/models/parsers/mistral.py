"""Tool calls of the Mistral models, behind `[TOOL_CALLS]`.

Two forms: a JSON list `[{"name": ..., "arguments": {...}}, ...]`, and since tokenizer version 11 `name{...}`, each with
a mark of its own, where `[CALL_ID]...` and `[ARGS]` may stand between name and arguments.
"""

from __future__ import annotations

import re
import secrets
import string

from tutti.models.parsers.coroutine import CoroutineParser
from tutti.models.parsers.reader import Malformed, Reading

CALLS, ARGS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_NAME = re.compile(r"[A-Za-z0-9_.:/-]+")
_ALPHABET = string.ascii_letters + string.digits


def new_mistral_id() -> str:
    """Nine letters and digits: the only form that these models' templates take back."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


class MistralParser(CoroutineParser):
    """Reads calls in both forms; all else is content."""

    marks = (CALLS, ARGS, CALL_ID)

    def read(self) -> Reading[None]:
        """Content and calls, in any order."""
        while (yield from self.content_until(CALLS)):
            try:
                if (yield from self.chars.space()) == "[":
                    yield from self._list()
                else:
                    yield from self._named()
            except Malformed:
                self.give_back()

    def _list(self) -> Reading[None]:
        yield from self.chars.expect("[")
        sign = yield from self.chars.space()
        while sign != "]":
            yield from self.call_object()
            sign = yield from self.chars.space()
            if sign != "]":
                yield from self.chars.expect(",")
                sign = yield from self.chars.space()
        self.chars.position += 1
        self.chars.settle()

    def _named(self) -> Reading[None]:
        name = yield from self._word()
        yield from self.chars.space()
        if (yield from self.chars.match(CALL_ID)):
            yield from self._word()
        yield from self.chars.match(ARGS)
        yield from self.chars.space()
        yield from self.named_call(name)

    def _word(self) -> Reading[str]:
        word = ""
        while (yield from self.chars.peek()) and (more := self.chars.take(_NAME)):
            word += more
        if not word:
            raise Malformed
        return word
