"""Media of a request into text, by parts that hear or see: in the place where the medium stood.

One that writes down recordings does what `/v1/audio/transcriptions` does; any other model is asked, by the prompt that
the file gives it. What was read is kept: a conversation brings its first recordings along with every turn.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tutti.events import Event, TextDelta, Usage
from tutti.gateway.composed.part import Part, accompanying
from tutti.models.parsers.base import ContentDelta
from tutti.models.processor.messages import Message, modality_of
from tutti.models.processor.speech import Segment, Task, Transcriber, transcribe
from tutti.request import Chat, Media, Request

if TYPE_CHECKING:
    import numpy as np

    from tutti.models.processor import Processor
    from tutti.models.processor.speech import Generate

Spend = Callable[[Usage], None]
_KEPT = 256  # texts


class Reader(Protocol):
    """One part that reads."""

    async def read(self, medium: Media, request: Request, spend: Spend) -> str:
        """The text of a medium of `request`. Raises TuttiError."""
        ...


class Ears:
    """A part that writes down recordings; implements `Transcriber`, too, for the doors."""

    def __init__(self, part: Part, transcriber: Transcriber) -> None:
        self.part = part
        self.transcriber = transcriber
        self.rate = transcriber.rate

    async def read(self, medium: Media, request: Request, spend: Spend) -> str:
        """See `Reader.read`."""
        from tutti.media.audio import read_audio  # NumPy: who sends text alone never waits for it

        manner = self.part.spec.manner
        generate = self._generate(spend, request)
        with self.part.naming():
            samples = await asyncio.to_thread(read_audio, medium.data, self.rate)
        language = manner.language
        if language is None:
            language = await self.transcriber.detect_language(self.part.processor, generate, samples)
        temperature = float(manner.sampling.get("temperature", 0.0))
        task = Task(language, manner.task, prompt=manner.prompt, temperature=temperature)
        return (await transcribe(self.transcriber, self.part.processor, generate, samples, task)).text

    async def detect_language(
        self, processor: Processor, generate: Generate, samples: np.ndarray
    ) -> str | None:
        """See `Transcriber.detect_language`; it asks its own part."""
        return await self.transcriber.detect_language(self.part.processor, self._generate(_nobody), samples)

    def segments(
        self, processor: Processor, generate: Generate, samples: np.ndarray, task: Task
    ) -> AsyncGenerator[Segment, None]:
        """See `Transcriber.segments`; it asks its own part."""
        own = self._generate(_nobody)
        return self.transcriber.segments(self.part.processor, own, samples, task)

    def _generate(self, spend: Spend, whole: Request | None = None) -> Generate:
        """Asks the part, for the request `whole` if there is one."""

        def generate(request: Request) -> AsyncGenerator[Event, None]:
            return self.part.events(request if whole is None else accompanying(request, whole), spend)

        return generate


class Asked:
    """A part that converses: it is shown the medium, and asked as the file says."""

    def __init__(self, part: Part) -> None:
        self.part = part

    async def read(self, medium: Media, request: Request, spend: Spend) -> str:
        """See `Reader.read`."""
        content = [{"type": medium.modality}, {"type": "text", "text": self.part.spec.manner.prompt}]
        asked = question(self.part, content, request, (medium,))
        return await said(self.part, asked, spend)


class Readers:
    """All parts that read, by the modality that they do."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        self.readers = dict(readers)
        self._kept: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def written(self, request: Request, spend: Spend) -> Request:
        """`request` with text in the place of every medium that is read. Raises the first error of a part."""
        media = [part for part in request.parts if isinstance(part, Media)]
        if not any(one.modality in self.readers for one in media):
            return request
        reading = [asyncio.ensure_future(self._text(one, request, spend)) for one in media]
        try:
            texts = await asyncio.gather(*reading)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        parts = [
            msgspec.structs.replace(part, messages=tuple(_placed(part.messages, texts)))
            if isinstance(part, Chat)
            else part
            for part in request.parts
        ]
        left = tuple(
            part for part in parts if not (isinstance(part, Media) and part.modality in self.readers)
        )
        return msgspec.structs.replace(request, parts=left)

    async def _text(self, medium: Media, request: Request, spend: Spend) -> str | None:
        """What a medium says; None where nobody reads it."""
        reader = self.readers.get(medium.modality)
        if reader is None:
            return None
        key = medium.modality, hashlib.sha256(medium.data).hexdigest()
        if key not in self._kept:
            self._kept[key] = await reader.read(medium, request, spend)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def question(part: Part, content: Any, request: Request, media: tuple[Media, ...] = ()) -> Request:
    """What `part` is asked for `request`: `content` as a user's message."""
    manner = part.spec.manner
    opening = [{"role": "system", "content": manner.system}] if manner.system else []
    chat = Chat((*opening, {"role": "user", "content": content}))
    sampling = part.sampling
    if part.processor.output_parser(chat).needs_special_tokens:
        sampling = msgspec.structs.replace(sampling, skip_special_tokens=False)
    own, stages = part.sampled(request)
    asked = Request(
        id=f"{request.id}#{part.name}-{uuid.uuid4().hex[:8]}",
        parts=(chat, *media),
        sampling=own or sampling,
        stage_sampling=stages,
        arrival=time.time(),
    )
    return accompanying(asked, request)


async def said(part: Part, request: Request, spend: Spend) -> str:
    """The content of the answer to `request`, which begins with a conversation. Raises its error."""
    chat = request.parts[0]
    assert isinstance(chat, Chat)
    parser = part.processor.output_parser(chat)
    deltas = []
    async for event in part.events(request, spend):
        if isinstance(event, TextDelta):
            deltas += parser.push(event.text)
    deltas += parser.finish()
    return "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)).strip()


def _placed(messages: Sequence[Message], texts: Sequence[str | None]) -> list[Message]:
    """The messages with each medium's text, where it has one, in the medium's place."""
    coming = iter(texts)

    def placed(part: Any) -> Any:
        if modality_of(part) is None:
            return part
        text = next(coming, None)
        return part if text is None else {"type": "text", "text": text}

    return [
        {**message, "content": [placed(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _nobody(usage: Usage) -> None:
    """Where the account is the door's business."""
