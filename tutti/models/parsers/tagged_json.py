"""Tool calls as JSON behind a tag that the model's template tells of, or bare: what is read where no syntax is known.

`[{"name": ..., "arguments": {...}}, ...]` or objects one after the other; `parameters` means the same as `arguments`.
Since any JSON looks like a call, only the names of tools that were offered count.
"""

from __future__ import annotations

from collections.abc import Collection

from tutti.models.parsers.coroutine import CoroutineParser
from tutti.models.parsers.reader import Malformed, Reading


class TaggedJsonParser(CoroutineParser):
    """Reads calls of the tools `names` behind `tag`, without one at the answer's beginning; all else is content."""

    def __init__(self, names: Collection[str], tag: str, special_tokens: Collection[str] = ()) -> None:
        """`special_tokens` are those that decoding skips unless told not to."""
        self._names = names
        self._tag = tag.rstrip("[").rstrip()  # a bracket belongs to the list
        super().__init__(needs_special_tokens=self._tag in special_tokens)

    def read(self) -> Reading[None]:
        """Content and calls; without a tag calls, then content."""
        if not self._tag:
            yield from self._calls()
            self.give_back()
            yield from self.rest_is_content()
            return
        while (yield from self.content_until(self._tag)):
            yield from self._calls()

    def _calls(self) -> Reading[None]:
        """Calls and what separates them; what is none is left for content."""
        called = self.calls
        while True:
            before = self.chars.position
            sign = yield from self.chars.space()
            if sign == "{":
                try:
                    yield from self.call_object(lambda name: name in self._names)
                except Malformed:
                    self.give_back()
                    return
            elif sign and sign in ("[" if self.calls == called else ",;]"):
                self.chars.position += 1
            elif self.calls == called:
                self.give_back()
                return
            else:
                self.chars.rewind(before)
                yield from self._closing()
                return

    def _closing(self) -> Reading[None]:
        """The tag's counterpart (`</tool_call>`), which is nobody's content."""
        before = self.chars.position
        yield from self.chars.space()
        for close in {f"</{self._tag[1:]}", f"[/{self._tag[1:]}"} if self._tag[:1] in ("<", "[") else ():
            if (yield from self.chars.match(close)):
                self.chars.settle()
                return
        self.chars.rewind(before)
