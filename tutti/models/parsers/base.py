"""What an answer is made of (content, reasoning, tool calls), and the interface of every parser of answers.

A parser takes the answer's text in any pieces and gives deltas. It never raises on what a model wrote, and never
loses it: what is not of the syntax it reads comes out as content. Joined, the deltas are the same for every split of
the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More of the answer proper."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of call `index`: first its `name`, once, with no arguments; then its arguments, as JSON text in pieces.

    The arguments of a call that the model completed are a JSON object. Those of a call cut short (the token limit)
    stay cut short, so that nobody runs it by mistake.
    """

    index: int
    id: str
    name: str | None = None
    arguments: str = ""


Delta = ContentDelta | ReasoningDelta | ToolCallDelta


class OutputParser(Protocol):
    """Splits one answer. `needs_special_tokens`: its marks are special tokens, so decoding must not skip those."""

    needs_special_tokens: bool

    def push(self, text: str) -> list[Delta]:
        """The deltas that `text` settles."""
        ...

    def finish(self) -> list[Delta]:
        """The rest, when the answer has ended. Nothing may be pushed afterwards."""
        ...


def join(deltas: Iterable[Delta]) -> list[Delta]:
    """The same deltas, neighbours of one kind (and call) joined, empty ones dropped; a name stays on its own."""
    joined: list[Delta] = []
    for delta in deltas:
        last = joined[-1] if joined else None
        if isinstance(delta, ToolCallDelta):
            if (
                isinstance(last, ToolCallDelta)
                and (last.index, last.name, delta.name) == (delta.index, None, None)
            ):  # fmt: skip
                joined[-1] = replace(last, arguments=last.arguments + delta.arguments)
            elif delta.name is not None or delta.arguments:
                joined.append(delta)
        elif not delta.text:
            continue
        elif isinstance(delta, ContentDelta) and isinstance(last, ContentDelta):
            joined[-1] = ContentDelta(last.text + delta.text)
        elif isinstance(delta, ReasoningDelta) and isinstance(last, ReasoningDelta):
            joined[-1] = ReasoningDelta(last.text + delta.text)
        else:
            joined.append(delta)
    return joined
