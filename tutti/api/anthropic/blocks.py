"""An answer's deltas as Anthropic's content blocks: the events of a stream, and the blocks that they make.

A block begins where the kind of what is said changes, or another call begins; the one before it ends first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from copy import copy  # an event keeps what the block was when it was told
from typing import Any

from tutti.api.anthropic.answers import Block, TextBlock, ThinkingBlock, ToolUseBlock
from tutti.models.parsers.base import ContentDelta, Delta, ReasoningDelta
from tutti.models.processor.messages import parse_arguments

Event = dict[str, Any]


class Blocks:
    """The blocks of one answer, the last of which may be open."""

    def __init__(self) -> None:
        self.done: list[Block] = []
        self._open: Block | None = None
        self._pieces: list[str] = []  # of the open one

    def add(self, deltas: Iterable[Delta]) -> list[Event]:
        """The events of what is said now."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, ContentDelta):
                if not isinstance(self._open, TextBlock):
                    events += self._begin(TextBlock(""))
                events.append(self._more(delta.text, "text_delta", "text"))
            elif isinstance(delta, ReasoningDelta):
                if not isinstance(self._open, ThinkingBlock):
                    events += self._begin(ThinkingBlock("", ""))
                events.append(self._more(delta.text, "thinking_delta", "thinking"))
            else:
                if delta.name is not None:
                    events += self._begin(ToolUseBlock(delta.id, delta.name, {}))
                if delta.arguments:
                    events.append(self._more(delta.arguments, "input_json_delta", "partial_json"))
        return events

    def finish(self) -> list[Event]:
        """The events of the end of the open block, if there is one."""
        block = self._open
        if block is None:
            return []
        events: list[Event] = []
        text = "".join(self._pieces)
        if isinstance(block, TextBlock):
            block.text = text
        elif isinstance(block, ThinkingBlock):
            block.thinking, block.signature = text, _signature(text)
            events.append(self._delta({"type": "signature_delta", "signature": block.signature}))
        else:
            found = parse_arguments(text)
            block.input = found if isinstance(found, dict) else {}
        events.append({"type": "content_block_stop", "index": len(self.done)})
        self.done.append(block)
        self._open = None
        return events

    def _begin(self, block: Block) -> list[Event]:
        events = self.finish()
        self._open, self._pieces = block, []
        return [
            *events,
            {"type": "content_block_start", "index": len(self.done), "content_block": copy(block)},
        ]

    def _more(self, piece: str, kind: str, key: str) -> Event:
        self._pieces.append(piece)
        return self._delta({"type": kind, key: piece})

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": len(self.done), "delta": delta}


def _signature(thought: str) -> str:
    """Clients send a thought back only with a signature; ours is its digest."""
    return hashlib.sha256(thought.encode("utf-8", "replace")).hexdigest()
