"""The items of a conversation: messages, calls of functions and what these answered; as clients see them, as models do.

Items are changed where they stand: an answer's grows while it comes, a spoken one is cut to what was heard.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tutti.api.realtime.heard import heard
from tutti.api.realtime.sound import Format, Sound
from tutti.request import Media

COMPLETED, INCOMPLETE, IN_PROGRESS = "completed", "incomplete", "in_progress"


@dataclass(slots=True)
class TextPart:
    """Text, of either side."""

    kind: str  # input_text | output_text
    text: str

    def shown(self, format: Format | None) -> dict[str, Any]:
        """As clients see it."""
        return {"type": self.kind, "text": self.text}

    def content(self) -> dict[str, Any]:
        """As a part of a chat's message."""
        return {"type": "text", "text": self.text}

    def media(self) -> Media | None:
        """What the part of the chat's message marks."""
        return None


@dataclass(slots=True)
class HeardPart:
    """What a user said. The transcript is for the client's eyes; the model hears the sound."""

    sound: Sound
    transcript: str | None = None

    def shown(self, format: Format | None) -> dict[str, Any]:
        """As clients see it; with its sound where a format for it is given."""
        shown = {"type": "input_audio", "transcript": self.transcript}
        if format is not None:
            shown["audio"] = base64.b64encode(self.sound.encoded(format)).decode()
        return shown

    def content(self) -> dict[str, Any]:
        """As a part of a chat's message."""
        return {"type": "audio"}

    def media(self) -> Media | None:
        """What the part of the chat's message marks."""
        return Media("audio", self.sound.wav())


@dataclass(slots=True)
class PicturePart:
    """A picture: the bytes of a file, and the URL it was sent as."""

    data: bytes
    url: str
    detail: str

    def shown(self, format: Format | None) -> dict[str, Any]:
        """As clients see it."""
        return {"type": "input_image", "image_url": self.url, "detail": self.detail}

    def content(self) -> dict[str, Any]:
        """As a part of a chat's message."""
        return {"type": "image"}

    def media(self) -> Media | None:
        """What the part of the chat's message marks."""
        return Media("image", self.data)


@dataclass(slots=True)
class SpokenPart:
    """What was said aloud: so many seconds of it were given so far; `whole` when all of the transcript was said."""

    transcript: str = ""
    seconds: float = 0.0
    whole: bool = False

    def shown(self, format: Format | None) -> dict[str, Any]:
        """As clients see it; the sound of answers is not kept."""
        return {"type": "output_audio", "transcript": self.transcript}

    def content(self) -> dict[str, Any]:
        """As a part of a chat's message."""
        return {"type": "text", "text": self.transcript}

    def media(self) -> Media | None:
        """What the part of the chat's message marks."""
        return None

    def cut(self, seconds: float, rate: float | None) -> None:
        """Only so much was heard; `rate` is how fast the voice speaks, where that is known (see `heard`)."""
        self.transcript = heard(self.transcript, seconds, self.seconds if self.whole else None, rate)
        self.seconds = seconds
        self.whole = True


Part = TextPart | HeardPart | PicturePart | SpokenPart


@dataclass(slots=True)
class Message:
    """What somebody said."""

    role: str  # system | user | assistant
    parts: list[Part] = field(default_factory=list)
    id: str = field(default_factory=lambda: new_id("item"))
    status: str = COMPLETED

    def shown(self, format: Format | None = None) -> dict[str, Any]:
        """As clients see it; sound is shown where a format for it is given."""
        return _shown(self, "message", role=self.role, content=[part.shown(format) for part in self.parts])

    @property
    def size(self) -> int:
        """Bytes of its media."""
        sounds = sum(len(part.sound.pcm) for part in self.parts if isinstance(part, HeardPart))
        pictures = sum(len(part.data) + len(part.url) for part in self.parts if isinstance(part, PicturePart))
        return sounds + pictures

    def media(self) -> list[Media]:
        """Its media, in order."""
        return [media for part in self.parts if (media := part.media()) is not None]

    def content(self) -> str | list[dict[str, Any]]:
        """The content of a chat's message: text, or parts where it holds media."""
        parts = [part.content() for part in self.parts]
        if all(part["type"] == "text" for part in parts):
            return "\n".join(part["text"] for part in parts)
        return parts


@dataclass(slots=True)
class FunctionCall:
    """A call that the model made."""

    name: str
    arguments: str = ""
    call_id: str = field(default_factory=lambda: new_id("call"))
    id: str = field(default_factory=lambda: new_id("item"))
    status: str = COMPLETED

    def shown(self, format: Format | None = None) -> dict[str, Any]:
        """As clients see it."""
        return _shown(self, "function_call", name=self.name, call_id=self.call_id, arguments=self.arguments)

    @property
    def whole(self) -> bool:
        """Whether the arguments are all there."""
        try:
            json.loads(self.arguments)
        except ValueError:
            return False
        return True


@dataclass(slots=True)
class FunctionOutput:
    """What a function answered."""

    call_id: str
    output: str
    id: str = field(default_factory=lambda: new_id("item"))
    status: str = COMPLETED

    def shown(self, format: Format | None = None) -> dict[str, Any]:
        """As clients see it."""
        return _shown(self, "function_call_output", call_id=self.call_id, output=self.output)


Item = Message | FunctionCall | FunctionOutput


def _shown(item: Item, kind: str, **own: Any) -> dict[str, Any]:
    """An item as clients see it: what every item has, and what is its `own`."""
    return {"id": item.id, "object": "realtime.item", "type": kind, "status": item.status, **own}


def new_id(kind: str) -> str:
    """A fresh id."""
    return f"{kind}_{uuid.uuid4().hex[:21]}"


def as_chat(items: list[Item]) -> tuple[list[dict[str, Any]], list[Media]]:
    """The messages of a chat, and the media they mark, in order.

    Calls join the assistant's message before them. What is still coming, and what came to nothing, is left out.
    """
    messages: list[dict[str, Any]] = []
    media: list[Media] = []
    for item in items:
        if item.status != IN_PROGRESS:
            messages += _messages(item, messages)
            media += item.media() if isinstance(item, Message) else []
    return messages, media


def _messages(item: Item, before: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if isinstance(item, FunctionOutput):
        yield {"role": "tool", "tool_call_id": item.call_id, "content": item.output}
    elif isinstance(item, FunctionCall):
        if not item.whole:
            return
        function = {"name": item.name, "arguments": item.arguments}
        call = {"id": item.call_id, "type": "function", "function": function}
        if before and before[-1]["role"] == "assistant":
            before[-1].setdefault("tool_calls", []).append(call)
        else:
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
    elif item.parts and (item.role != "assistant" or item.content()):
        yield {"role": item.role, "content": item.content()}
