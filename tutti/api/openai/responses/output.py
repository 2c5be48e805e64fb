"""An answer's deltas as the items of a response, and the events that tell them.

An item begins where the kind of what is said changes, or another call begins; the one before it ends first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tutti.api.openai.responses.answers import (
    COMPLETED,
    IN_PROGRESS,
    FunctionCall,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from tutti.models.parsers.base import ContentDelta, Delta, ReasoningDelta

Event = dict[str, Any]


@dataclass(slots=True)
class _Open:
    """The item that is being said. `call` is its call's id and name, where it is one."""

    kind: str  # message | reasoning | function_call
    id: str
    call: tuple[str, str] = ("", "")
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def item(self, status: str) -> Item:
        """The item as it is; one that has just begun has no content."""
        begun = status == IN_PROGRESS
        if self.kind == "message":
            return Message(self.id, status, [] if begun else [OutputText(self.text)])
        if self.kind == "reasoning":
            return Reasoning(self.id, status, [] if begun else [ReasoningText(self.text)])
        return FunctionCall(self.id, status, *self.call, self.text)

    def part(self) -> OutputText | ReasoningText:
        """The content so far."""
        return OutputText(self.text) if self.kind == "message" else ReasoningText(self.text)


class Output:
    """The items of one answer, the last of which may be open."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._open: _Open | None = None

    def add(self, deltas: Iterable[Delta]) -> list[Event]:
        """The events of what is said now."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, ContentDelta):
                events += self._say("message", "msg", delta.text, "response.output_text.delta")
            elif isinstance(delta, ReasoningDelta):
                events += self._say("reasoning", "rs", delta.text, "response.reasoning_text.delta")
            else:
                if delta.name is not None:
                    events += self.end()
                    events += self._begin(_Open("function_call", _new_id("fc"), (delta.id, delta.name)))
                if delta.arguments and self._open is not None:
                    self._open.pieces.append(delta.arguments)
                    events.append(
                        self._event("response.function_call_arguments.delta", delta=delta.arguments)
                    )
        return events

    def finish(self, status: str) -> list[Event]:
        """The events of the end; `status` is the last item's. An answer without a word is a message without one."""
        events = [] if self.items or self._open is not None else self._begin(_Open("message", _new_id("msg")))
        return events + self.end(status)

    def end(self, status: str = COMPLETED) -> list[Event]:
        """The events of the end of the open item, if there is one."""
        open_ = self._open
        if open_ is None:
            return []
        item = open_.item(status)
        if isinstance(item, FunctionCall):
            kind = "response.function_call_arguments.done"
            events = [self._event(kind, arguments=item.arguments, name=item.name)]
        else:
            more: Event = {"logprobs": []} if isinstance(item, Message) else {}
            name = "output_text" if isinstance(item, Message) else "reasoning_text"
            events = [
                self._event(f"response.{name}.done", content_index=0, text=open_.text, **more),
                self._event("response.content_part.done", content_index=0, part=open_.part()),
            ]
        events.append({"type": "response.output_item.done", "output_index": len(self.items), "item": item})
        self.items.append(item)
        self._open = None
        return events

    def _say(self, kind: str, prefix: str, text: str, name: str) -> list[Event]:
        events: list[Event] = []
        if self._open is None or self._open.kind != kind:
            events = self.end() + self._begin(_Open(kind, _new_id(prefix)))
        assert self._open is not None
        self._open.pieces.append(text)
        more: Event = {"logprobs": []} if kind == "message" else {}
        return [*events, self._event(name, content_index=0, delta=text, **more)]

    def _begin(self, item: _Open) -> list[Event]:
        self._open = item
        events: list[Event] = [
            {
                "type": "response.output_item.added",
                "output_index": len(self.items),
                "item": item.item(IN_PROGRESS),
            }
        ]
        if item.kind != "function_call":
            events.append(self._event("response.content_part.added", content_index=0, part=item.part()))
        return events

    def _event(self, kind: str, /, **fields: Any) -> Event:
        """An event about the open item."""
        assert self._open is not None
        return {"type": kind, "item_id": self._open.id, "output_index": len(self.items), **fields}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
