"""A reasoning parser before a tool parser: thoughts pass by, content goes on to be read for calls."""

from __future__ import annotations

from tutti.models.parsers.base import ContentDelta, Delta, OutputParser, join


class ComposedParser:
    """`tools` reads the content that `reasoning` leaves."""

    def __init__(self, reasoning: OutputParser, tools: OutputParser) -> None:
        self._reasoning = reasoning
        self._tools = tools
        self.needs_special_tokens = reasoning.needs_special_tokens or tools.needs_special_tokens

    def push(self, text: str) -> list[Delta]:
        """The deltas that `text` settles."""
        return join(self._through(self._reasoning.push(text)))

    def finish(self) -> list[Delta]:
        """The rest."""
        return join([*self._through(self._reasoning.finish()), *self._tools.finish()])

    def _through(self, deltas: list[Delta]) -> list[Delta]:
        passed: list[Delta] = []
        for delta in deltas:
            passed.extend(self._tools.push(delta.text) if isinstance(delta, ContentDelta) else [delta])
        return passed
