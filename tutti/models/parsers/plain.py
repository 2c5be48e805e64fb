"""No syntax at all: the answer is content."""

from __future__ import annotations

from tutti.models.parsers.base import ContentDelta, Delta


class PlainParser:
    """Passes text through."""

    needs_special_tokens = False

    def push(self, text: str) -> list[Delta]:
        """`text` as content."""
        return [ContentDelta(text)] if text else []

    def finish(self) -> list[Delta]:
        """Nothing is held."""
        return []
