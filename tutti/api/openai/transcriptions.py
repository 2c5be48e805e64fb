"""POST /v1/audio/transcriptions and /v1/audio/translations: a recording to text, subtitles or timed segments."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.multipart import Form, parse_form
from tutti.api.openai.job import json_response
from tutti.api.openai.subtitles import srt, verbose, vtt
from tutti.api.stream import DONE, EventStream, sse
from tutti.errors import InvalidRequest
from tutti.events import Event
from tutti.gateway.lease import Lease
from tutti.models.processor import Processor
from tutti.models.processor.speech import Segment, Task, Transcriber, Transcription, joined, transcribe
from tutti.request import Request

if TYPE_CHECKING:
    import numpy as np

_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_TIMED = ("srt", "verbose_json", "vtt")


async def transcriptions(call: Call) -> ASGIApp:
    """What is said, in the language in which it is said."""
    return await _answer(call, "transcribe")


async def translations(call: Call) -> ASGIApp:
    """What is said, in English."""
    return await _answer(call, "translate")


async def _answer(call: Call, name: str) -> ASGIApp:
    form = parse_form(call.body, call.content_type)
    work = await _Work.of(call, form, name)
    if form.flag("stream"):
        return await EventStream.open(work.stream())
    return work.response(await work.whole())


@dataclass(frozen=True, slots=True)
class _Work:
    """One recording, and what is asked of it."""

    call: Call
    lease: Lease
    processor: Processor
    transcriber: Transcriber
    samples: np.ndarray
    task: Task
    format: str

    @classmethod
    async def of(cls, call: Call, form: Form, name: str) -> _Work:
        """The work that `form` asks for. Raises InvalidRequest, InvalidMedia, ModelNotFound."""
        lease = await call.lease(form.value("model"))
        processor = lease.backend.processor
        transcriber = processor.transcriber
        if transcriber is None:
            raise InvalidRequest(
                f"The model {lease.model.name} does not write down recordings.", param="model"
            )
        format = form.value("response_format", "json")
        if format not in _FORMATS:
            raise InvalidRequest(
                f"response_format: {format!r} is not one of {', '.join(_FORMATS)}.", param="response_format"
            )
        task = Task(
            form.value("language") or None,
            name,
            format in _TIMED,
            _words(form, format),
            form.value("prompt"),
            form.number("temperature", 0.0),
        )
        if "file" not in form.files:
            raise InvalidRequest("The field 'file' is missing: send a recording.", param="file")
        from tutti.media.audio import read_audio  # NumPy: who sends text alone never waits for it

        samples = await asyncio.to_thread(read_audio, form.files["file"], transcriber.rate)
        work = cls(call, lease, processor, transcriber, samples, task, format)
        if task.language is None:
            language = await transcriber.detect_language(processor, work.generate, samples)
            work = replace(work, task=replace(task, language=language))
        return work

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Have the model answer `request`."""
        named = msgspec.structs.replace(request, model=self.lease.model.name)
        return self.lease.generate(named, self.call.caller)

    async def whole(self) -> Transcription:
        """All of it."""
        return await transcribe(self.transcriber, self.processor, self.generate, self.samples, self.task)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Events of OpenAI's stream: the text segment by segment, then the whole."""
        found: list[Segment] = []
        segments = self.transcriber.segments(self.processor, self.generate, self.samples, self.task)
        async with aclosing(segments):
            async for segment in segments:
                delta = segment.text if found else segment.text.lstrip()
                found.append(segment)
                yield sse({"type": "transcript.text.delta", "delta": delta})
        yield sse({"type": "transcript.text.done", "text": joined(found)})
        yield DONE

    def response(self, answer: Transcription) -> Response:
        """The answer in the format that was asked for."""
        subtitles = {"srt": partial(srt, answer.segments), "vtt": partial(vtt, answer.segments)}
        if self.format in subtitles:
            return _text(subtitles[self.format]())
        if self.format == "text":
            return _text(f"{answer.text}\n")
        if self.format == "json":
            return json_response({"text": answer.text, "usage": self._usage()})
        return json_response(verbose(answer, self.task) | {"usage": self._usage()})

    def _usage(self) -> dict[str, object]:
        return {"type": "duration", "seconds": math.ceil(len(self.samples) / self.transcriber.rate)}


def _words(form: Form, format: str) -> bool:
    """Whether the times of words are asked for. Raises InvalidRequest."""
    asked = form.values("timestamp_granularities")
    unknown = [one for one in asked if one not in ("word", "segment")]
    if unknown or (asked and format != "verbose_json"):
        raise InvalidRequest(
            f"timestamp_granularities: {unknown[0]!r} is neither 'word' nor 'segment'."
            if unknown
            else "timestamp_granularities: ask for response_format verbose_json with it.",
            param="timestamp_granularities",
        )
    return "word" in asked


def _text(text: str) -> Response:
    return Response(text, media_type="text/plain")
