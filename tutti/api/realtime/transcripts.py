"""What users say, written down for the client's eyes: by a model made for it, or by one that hears and can be asked."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from tutti.api.realtime.capable import hears
from tutti.api.realtime.config import Transcription
from tutti.api.realtime.errors import error_detail, expected
from tutti.api.realtime.items import HeardPart
from tutti.api.realtime.outbox import Outbox
from tutti.api.realtime.sound import Sound
from tutti.events import Event, Failed, TextDelta, Usage
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import Caller
from tutti.gateway.lease import Lease
from tutti.media.audio import read_audio
from tutti.models.processor.speech import Task, Transcriber
from tutti.request import Chat, Media, Request, SamplingParams

_EVENT = "conversation.item.input_audio_transcription"
_ASK = "Write down what is said in this recording, word for word, and nothing else."


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes down the recordings of one session. `turns` limits how many at a time."""

    gateway: Gateway
    caller: Caller
    outbox: Outbox
    turns: asyncio.Semaphore

    async def write(self, item_id: str, part: HeardPart, model: str, settings: Transcription) -> None:
        """Tell the transcript of the first part of an item, piece by piece; `model` is the session's."""
        place = {"item_id": item_id, "content_index": 0}
        name = settings.model or model
        named = replace(self, caller=replace(self.caller, call=item_id))  # the name it has in traces
        pieces: list[str] = []
        try:
            async with (
                self.turns,
                self.gateway.lease(name) as lease,
                aclosing(named._pieces(lease, part.sound, settings)) as found,
            ):
                usage: dict[str, Any] = {"type": "duration", "seconds": round(part.sound.seconds, 3)}
                async for piece in found:
                    if isinstance(piece, Usage):
                        usage = _tokens(piece)
                    elif piece:
                        pieces.append(piece)
                        self.outbox.put(f"{_EVENT}.delta", **place, delta=piece)
        except Exception as error:  # noqa: BLE001 - told and logged; the session goes on
            detail = error_detail(expected(error, "a transcript"), None)
            del detail["event_id"]
            self.outbox.put(f"{_EVENT}.failed", **place, error=detail)
            return
        part.transcript = "".join(pieces).strip()
        self.outbox.put(f"{_EVENT}.completed", **place, transcript=part.transcript, usage=usage)

    def _pieces(
        self, lease: Lease, sound: Sound, settings: Transcription
    ) -> AsyncGenerator[str | Usage, None]:
        processor = lease.backend.processor
        hears(processor, lease.model.name, "session.audio.input.transcription.model")
        if processor.transcriber is not None:
            return self._transcribed(lease, processor.transcriber, sound, settings)
        return self._asked(lease, sound, settings)

    async def _transcribed(
        self, lease: Lease, transcriber: Transcriber, sound: Sound, settings: Transcription
    ) -> AsyncGenerator[str | Usage, None]:
        """By a model made for it."""

        def generate(request: Request) -> AsyncGenerator[Event, None]:
            return lease.generate(msgspec.structs.replace(request, model=lease.model.name), self.caller)

        processor = lease.backend.processor
        samples = await asyncio.to_thread(read_audio, sound.wav(), transcriber.rate)
        task = Task(settings.language, prompt=settings.prompt)
        if task.language is None:
            task = replace(task, language=await transcriber.detect_language(processor, generate, samples))
        first = True
        async with aclosing(transcriber.segments(processor, generate, samples, task)) as segments:
            async for segment in segments:
                yield segment.text.lstrip() if first else segment.text
                first = False

    async def _asked(
        self, lease: Lease, sound: Sound, settings: Transcription
    ) -> AsyncGenerator[str | Usage, None]:
        """By a model that hears: it is asked to."""
        words = [_ASK, f"The language is {settings.language}." if settings.language else "", settings.prompt]
        text = {"type": "text", "text": " ".join(word for word in words if word)}
        chat = Chat(({"role": "user", "content": [{"type": "audio"}, text]},))
        request = Request(
            id=f"transcript-{uuid.uuid4().hex}",
            parts=(chat, Media("audio", sound.wav())),
            sampling=SamplingParams(temperature=0.0, max_tokens=64 + int(16 * sound.seconds)),
            model=lease.model.name,
        )
        async with aclosing(lease.generate(request, self.caller)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield event.text
                elif isinstance(event, Usage):
                    yield event
                elif isinstance(event, Failed):
                    raise event.error.error()


def _tokens(usage: Usage) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
