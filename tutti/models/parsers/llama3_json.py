"""Tool calls of Llama 3.1 and later: the answer is `{"name": ..., "parameters": {...}}`, bare.

`<|python_tag|>` may stand before it, and several calls are separated by `;`. Because any JSON answer looks like this,
only the names of tools that were offered count as calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tutti.models.parsers.coroutine import CoroutineParser, new_call_id
from tutti.models.parsers.reader import Malformed, Reading

PYTHON_TAG = "<|python_tag|>"


class Llama3JsonParser(CoroutineParser):
    """Reads calls of the tools `names` at the beginning of the answer; all else is content."""

    marks = (PYTHON_TAG,)

    def __init__(
        self,
        names: Collection[str],
        new_id: Callable[[], str] = new_call_id,
        needs_special_tokens: bool = False,
    ) -> None:
        self._names = names
        super().__init__(new_id, needs_special_tokens)

    def read(self) -> Reading[None]:
        """Calls, then content."""
        try:
            yield from self.chars.space()
            yield from self.chars.match(PYTHON_TAG)
            yield from self.chars.space()
            while (yield from self.chars.peek()) == "{":
                yield from self.call_object(lambda name: name in self._names)
                if (yield from self.chars.space()) == ";":
                    self.chars.position += 1
                    yield from self.chars.space()
        except Malformed:
            pass
        self.give_back()
        yield from self.rest_is_content()
