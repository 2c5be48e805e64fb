"""Tool calls of the Hermes models and all that follow them: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

The closing tag may be missing, and one pair of tags may hold several calls.
"""

from __future__ import annotations

from tutti.models.parsers.coroutine import CoroutineParser
from tutti.models.parsers.reader import Malformed, Reading

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesParser(CoroutineParser):
    """Reads calls between tags; all else is content."""

    marks = (OPEN, CLOSE)

    def read(self) -> Reading[None]:
        """Content and calls, in any order."""
        while (yield from self.content_until(OPEN)):
            try:
                yield from self.chars.space()
                yield from self.call_object()
                yield from self._more_calls()
            except Malformed:
                self.give_back()

    def _more_calls(self) -> Reading[None]:
        """Behind a call: further ones, then the closing tag; whatever else comes is left for content."""
        while True:
            before = self.chars.position
            sign = yield from self.chars.space()
            if sign == "{":
                yield from self.call_object()
                continue
            if (yield from self.chars.match(CLOSE)):
                self.chars.settle()
            else:
                self.chars.rewind(before)
            return
