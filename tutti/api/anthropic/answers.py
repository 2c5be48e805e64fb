"""What Anthropic's clients get: the objects of `/v1/messages`. Values only."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Usage(Struct):
    """What a request cost, in tokens; the prompt is `input_tokens` and `cache_read_input_tokens` together."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class TextBlock(Struct, tag="text"):
    """Something said."""

    text: str
    citations: None = None


class ThinkingBlock(Struct, tag="thinking"):
    """A thought. The signature names it; nothing is checked by it here."""

    thinking: str
    signature: str


class ToolUseBlock(Struct, tag="tool_use"):
    """A call of a tool. The input of one that was cut short is empty, so that nobody runs it by mistake."""

    id: str
    name: str
    input: dict[str, Any]


Block = TextBlock | ThinkingBlock | ToolUseBlock


class Message(Struct):
    """An answer."""

    id: str
    model: str
    content: list[Block]
    usage: Usage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    type: str = "message"
    role: str = "assistant"


class TokenCount(Struct):
    """The answer of `/v1/messages/count_tokens`."""

    input_tokens: int
