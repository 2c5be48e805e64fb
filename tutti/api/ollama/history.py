"""From Ollama's messages to the conversation as the rest of Tutti knows it, and shorter where it does not fit."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutti.api.ollama.fields import MessageFields
from tutti.media.kind import sniff
from tutti.models.processor.messages import Message, modality_of
from tutti.request import Media

_HEAD = 1400  # characters of base64 by which a file is known; a multiple of four


def conversation(messages: Sequence[MessageFields]) -> list[Message]:
    """The messages in OpenAI's form; what is in `images` stands before the text, as Ollama has it."""
    return [_message(message) for message in messages]


def _message(message: MessageFields) -> Message:
    made: Message = {"role": message.role.lower(), "content": message.content or ""}
    if message.images:
        made["content"] = [*map(_part, message.images), {"type": "text", "text": message.content or ""}]
    if message.thinking:
        made["reasoning_content"] = message.thinking
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": call.id or f"call_{number}",
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments or {}},
            }
            for number, call in enumerate(message.tool_calls)
        ]
    if message.tool_name:
        made["name"] = message.tool_name
    if message.tool_call_id:
        made["tool_call_id"] = message.tool_call_id
    return made


def _part(data: str) -> dict[str, Any]:
    """A file in base64 as a content part. Clients send sound as an image, too: the bytes say what it is."""
    head = data.partition(",")[2] if data.startswith("data:") else data
    try:
        kind = sniff(base64.b64decode(head[:_HEAD])) or ""
    except (binascii.Error, ValueError):
        kind = ""  # whoever decodes all of it says what is wrong
    family = kind.partition("/")[0]
    name = f"{family if family in ('audio', 'video') else 'image'}_url"
    return {"type": name, name: {"url": data if data.startswith("data:") else f"data:;base64,{data}"}}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, and the media that they mention in the order in which they do."""

    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()

    @property
    def turns(self) -> int:
        """How many turns can be left out: all but the last. A turn begins with a user's message."""
        return max(len(self._starts()) - 1, 0)

    def without(self, turns: int) -> Conversation:
        """The conversation without its oldest `turns`; what the system says stays."""
        start = self._starts()[turns]
        messages: list[Message] = []
        media: list[Media] = []
        place = 0
        for index, message in enumerate(self.messages):
            count = _media_of(message)
            if index >= start or message.get("role") == "system":
                messages.append(message)
                media += self.media[place : place + count]
            place += count
        return Conversation(tuple(messages), tuple(media))

    def _starts(self) -> list[int]:
        return [index for index, message in enumerate(self.messages) if message.get("role") == "user"]


def _media_of(message: Message) -> int:
    content = message.get("content")
    return sum(modality_of(part) is not None for part in content) if isinstance(content, list) else 0
