"""`POST /v1/audio/speech`: a text is read aloud, as a file that is sent while it is made, or as events."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai.parse import parse
from tutti.api.stream import ByteStream, EventStream, sse
from tutti.errors import InvalidRequest
from tutti.events import AudioDelta, Event, Failed, Usage
from tutti.gateway.backend import BackendModel
from tutti.gateway.lease import Lease
from tutti.request import Request, SamplingParams, Script

if TYPE_CHECKING:
    from tutti.media.spoken import SpokenFile


class VoiceFields(msgspec.Struct, kw_only=True):
    """OpenAI's other way to name a voice."""

    id: str


class SpeechFields(msgspec.Struct, kw_only=True):
    """What programs send, as OpenAI and vLLM-Omni name it; `language` and `stage_sampling` go beyond OpenAI.

    `stream` false asks for the file in one piece, with its length in the header.
    """

    input: str
    model: str | None = None
    voice: str | VoiceFields | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = 1.0
    instructions: str | None = None
    language: str | None = None
    stream: bool | None = None
    stream_format: Literal["audio", "sse"] = "audio"
    stage_sampling: dict[str, SamplingParams] | None = None
    priority: int | None = None
    # What changes the sound and is not served here: refused rather than ignored.
    ref_audio: object = None
    ref_text: object = None

    def __post_init__(self) -> None:
        if not self.input.strip():
            raise InvalidRequest("input must not be empty: give the text to be spoken.", param="input")
        for name, value in (("ref_audio", self.ref_audio), ("ref_text", self.ref_text)):
            if value:
                raise InvalidRequest(f"{name} is not supported: name a voice.", param=name)

    @property
    def speaker(self) -> str | None:
        """The voice's name."""
        return self.voice.id if isinstance(self.voice, VoiceFields) else self.voice or None


async def speech(call: Call) -> ASGIApp:
    """Answer one call."""
    from tutti.media.audio_writer import CONTENT_TYPES  # NumPy: who sends text alone never waits for it

    job = await SpeechJob.of(call, parse(call.body, SpeechFields))
    kind = CONTENT_TYPES[job.fields.response_format]
    if job.fields.stream_format == "sse":
        return await EventStream.open(job.events())
    if job.fields.stream is False:
        return Response(await job.whole(), media_type=kind)
    return await ByteStream.open(job.pieces(), kind)


@dataclass(slots=True)
class SpeechJob:
    """One text that is spoken: `requests` speak its pieces one after the other, into `file`."""

    call: Call
    lease: Lease
    fields: SpeechFields
    requests: list[Request]
    file: SpokenFile
    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    async def of(cls, call: Call, fields: SpeechFields) -> SpeechJob:
        """The job of `fields`. Raises InvalidRequest, ModelNotFound."""
        from tutti.media.spoken import SpokenFile

        lease = await call.lease(fields.model)
        model = lease.model
        file = SpokenFile(fields.response_format, fields.speed)
        processor = lease.backend.processor
        if "audio" not in model.outputs:
            gives = ", ".join(model.outputs)
            raise InvalidRequest(f"The model {model.name} does not speak: it gives {gives}.", param="model")
        request = _request(fields, model)
        requests = await asyncio.to_thread(processor.readings, request, model.context)
        return cls(call, lease, fields, requests, file)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The file as it is made. Raises what ends it early."""
        async with aclosing(self._sounds()) as sounds:
            async for sound in sounds:
                if data := self.file.push(sound):
                    yield data
        if data := self.file.finish():
            yield data

    async def whole(self) -> bytes:
        """The file in one piece; the pieces of a long text are spoken at the same time. Raises what ended it early."""
        from tutti.media.spoken import whole_file

        sounds: list[list[AudioDelta]] = [[] for _ in self.requests]
        async with aclosing(self.lease.generate_all(self.requests, self.call.caller)) as events:
            async for number, event in events:
                sounds[number] += self._taken(event)
        joined = [sound for piece in sounds for sound in piece]
        fields = self.fields
        return await asyncio.to_thread(whole_file, joined, fields.response_format, fields.speed)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The same as OpenAI's events, with what it cost at the end."""
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                yield sse({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
        total = self.input_tokens + self.output_tokens
        usage = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": total,
        }
        yield sse({"type": "speech.audio.done", "usage": usage})

    async def _sounds(self) -> AsyncGenerator[AudioDelta, None]:
        for request in self.requests:
            async with aclosing(self.lease.generate(request, self.call.caller)) as events:
                async for event in events:
                    for sound in self._taken(event):
                        yield sound

    def _taken(self, event: Event) -> list[AudioDelta]:
        """The sound of an event, if it is one. Raises the request's error."""
        if isinstance(event, Failed):
            raise event.error.error()
        if isinstance(event, Usage):
            self.input_tokens += event.prompt_tokens
            self.output_tokens += event.completion_tokens
        return [event] if isinstance(event, AudioDelta) else []


def _request(fields: SpeechFields, model: BackendModel) -> Request:
    script = Script(fields.input, fields.instructions or "")
    return Request(
        id=f"speech-{uuid.uuid4().hex}",
        parts=(script,),
        sampling=SamplingParams(max_tokens=None),
        stage_sampling=fields.stage_sampling or {},
        modalities=("audio",),
        live=fields.stream is not False,
        voice=fields.speaker,
        language=fields.language or None,
        model=model.name,
        priority=fields.priority or 0,
        arrival=time.time(),
    )
