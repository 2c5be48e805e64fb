"""What doors see of a composition's way with text and media: the brain's, and what readers and the voice add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from tutti.gateway.composed.part import Part
from tutti.gateway.composed.readers import Ears, Reader
from tutti.gateway.composed.wiring import Wiring
from tutti.models.processor import Processor
from tutti.models.processor.messages import modality_of
from tutti.models.processor.speech import Transcriber
from tutti.request import Chat, Request


@dataclass(frozen=True, slots=True)
class ComposedProcessor(Processor):
    """The brain's processor, for doors. Prompts are made by each part's own.

    `takes` are the media of the whole; those in `read` have become text when a prompt is made. `ears` write down
    recordings, `voice` says texts.
    """

    takes: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    ears: Ears | None = field(default=None, compare=False)
    voice: Part | None = field(default=None, compare=False)

    @property
    def modalities(self) -> frozenset[str]:
        """See `Processor.modalities`."""
        return self.takes

    @property
    def transcriber(self) -> Transcriber | None:
        """See `Processor.transcriber`."""
        return self.ears

    @property
    def converses(self) -> bool:
        """See `Processor.converses`."""
        return self.has_chat_template

    def render(self, chat: Chat) -> str:
        """The prompt's text, as far as it is known before media are read."""
        return Processor.render(self, msgspec.structs.replace(chat, messages=self._unread(chat)))

    def readings(self, request: Request, context: int) -> list[Request]:
        """See `Processor.readings`: of the part that says texts."""
        if self.voice is None:
            return Processor.readings(self, request, context)
        return self.voice.processor.readings(request, self.voice.backend.info.context)

    def _unread(self, chat: Chat) -> tuple[dict[str, Any], ...]:
        def placed(part: Any) -> Any:
            return {"type": "text", "text": ""} if modality_of(part) in self.read else part

        return tuple(
            {**message, "content": [placed(part) for part in message["content"]]}
            if isinstance(message, Mapping) and isinstance(message.get("content"), list)
            else message
            for message in chat.messages
        )


def composed_processor(
    parts: Mapping[str, Part], wiring: Wiring, readers: Mapping[str, Reader]
) -> ComposedProcessor:
    """The processor of the whole."""
    brain = parts[wiring.brain]
    known = {one.name: getattr(brain.processor, one.name) for one in fields(Processor)}
    ears = readers.get("audio")
    voice = wiring.voice if wiring.voice != wiring.spoken else None
    return ComposedProcessor(
        **known | {"generation_defaults": brain.defaults, "media": None},
        takes=wiring.direct | frozenset(readers),
        read=frozenset(readers),
        ears=ears if isinstance(ears, Ears) else None,
        voice=None if voice is None else parts[voice],
    )
