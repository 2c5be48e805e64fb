"""One request on its way through the parts: who writes, to whom it goes on, and one stream of events of all that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial

import msgspec

from tutti.errors import TuttiError
from tutti.events import AudioDelta, Done, ErrorValue, Event, Failed, TextDelta, Usage
from tutti.gateway.composed.mouth import Mouth
from tutti.gateway.composed.part import Account, Part
from tutti.gateway.composed.readers import question
from tutti.gateway.composed.wiring import Wiring
from tutti.models.parsers.base import ContentDelta, Delta, OutputParser
from tutti.request import Chat, Request

_ANY_CHAT = Chat(({"role": "user", "content": ""},))  # where the prompt is tokens already


class Answering:
    """A request whose media are read, and the parts that answer it."""

    def __init__(
        self, parts: Mapping[str, Part], wiring: Wiring, request: Request, chat: Chat | None, account: Account
    ) -> None:
        """`chat` is the conversation that became the request's tokens; `account` is what reading has cost."""
        self.parts = parts
        self.wiring = wiring
        self.request = request
        self.chat = chat or _ANY_CHAT
        self.account = account
        self.aloud = "audio" in request.modalities
        self._writers = wiring.writers(self.aloud)
        self._out: asyncio.Queue[Event | None] = asyncio.Queue()
        self._ends: dict[int, Done] = {}
        self._mouths: dict[int, Mouth] = {}

    async def events(self) -> AsyncGenerator[Event, None]:
        """See `Backend.generate`. Closing the iterator cancels every part."""
        work = asyncio.create_task(self._work(), name=f"answer {self.request.id}")
        try:
            while (event := await self._out.get()) is not None:
                yield event
            await work  # raises what is none of our errors
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                if self.aloud and self.wiring.voice not in (None, self.wiring.spoken):
                    self._open_mouths(group)
                group.create_task(
                    self._write(group, self.wiring.brain, self._conversation(), self.chat, None)
                )
            for index, end in sorted(self._ends.items()):
                self._out.put_nowait(self.account.of(index))
                self._out.put_nowait(end)
        except* TuttiError as errors:
            self._out.put_nowait(Failed(self.request.id, ErrorValue.of(_first(errors))))
        finally:
            self._out.put_nowait(None)

    def _open_mouths(self, group: asyncio.TaskGroup) -> None:
        assert self.wiring.voice is not None
        for index in range(self.request.sampling.n):
            spend = partial(self.account.add, index=index)
            mouth = Mouth(self.parts[self.wiring.voice], self.request, index, spend, self._out.put_nowait)
            self._mouths[index] = mouth
            group.create_task(mouth.run())

    def _conversation(self) -> Request:
        """What the brain is asked."""
        brain, request = self.parts[self.wiring.brain], self.request
        own, stages = brain.sampled(request)
        speaks = self.aloud and self.wiring.voice == brain.name
        sampling = msgspec.structs.replace(own or request.sampling, n=request.sampling.n)
        return msgspec.structs.replace(
            request,
            sampling=sampling,
            stage_sampling=stages,
            modalities=("text", "audio") if speaks else ("text",),
            live=speaks and request.live,
            voice=(request.voice or brain.spec.manner.voice) if speaks else None,
        )

    async def _write(
        self, group: asyncio.TaskGroup, name: str, request: Request, chat: Chat, index: int | None
    ) -> None:
        """Have a part write; `index` is the output that it is about, None for those of the request itself."""
        part = self.parts[name]
        texts: dict[int, _Content] = {}

        def spend(usage: Usage) -> None:
            self.account.add(usage, index)

        async with aclosing(part.events(request, spend)) as events:
            async for event in events:
                output = event.index if index is None else index
                text = texts.get(output)
                if text is None:
                    text = texts[output] = _Content(part.processor.output_parser(chat))
                if isinstance(event, TextDelta):
                    self._said(name, event, output, text.push(event.text))
                elif isinstance(event, Done):
                    self._said(name, None, output, text.finish())
                    self._end(group, name, msgspec.structs.replace(event, index=output), text.text)
                elif isinstance(event, AudioDelta):
                    self._out.put_nowait(AudioDelta(self.request.id, event.pcm, event.rate, output))
                elif name == self.wiring.writer and index is None:
                    self._out.put_nowait(event)

    def _said(self, name: str, event: TextDelta | None, output: int, content: str) -> None:
        """A piece of a part's text: as it came in `event`, and the content in it."""
        if name == self.wiring.writer:
            if name != self.wiring.brain and content:
                self._out.put_nowait(TextDelta(self.request.id, (), content, index=output))
            elif name == self.wiring.brain and event is not None:
                self._out.put_nowait(event)
        if name == self.wiring.spoken and output in self._mouths:
            self._mouths[output].push(content)

    def _end(self, group: asyncio.TaskGroup, name: str, end: Done, content: str) -> None:
        """A part has written all of an output."""
        if name == self.wiring.writer:
            self._ends[end.index] = msgspec.structs.replace(end, request=self.request.id)
        if name == self.wiring.spoken and end.index in self._mouths:
            self._mouths[end.index].finish()
        for after in self.wiring.hands_on.get(name, ()):
            if after in self._writers:
                group.create_task(self._hand_on(group, after, content, end.index))

    async def _hand_on(self, group: asyncio.TaskGroup, name: str, content: str, index: int) -> None:
        """Give a part what another wrote."""
        part = self.parts[name]
        speaks = self.aloud and self.wiring.voice == name
        asked = "\n\n".join(text for text in (part.spec.manner.prompt, content) if text)
        request = msgspec.structs.replace(
            question(part, asked, self.request),
            modalities=("text", "audio") if speaks else ("text",),
            live=speaks and self.request.live,
            voice=(self.request.voice or part.spec.manner.voice) if speaks else None,
        )
        chat = request.parts[0]
        assert isinstance(chat, Chat)
        await self._write(group, name, request, chat, index)


class _Content:
    """The content of one output: what is neither thinking nor a call."""

    def __init__(self, parser: OutputParser) -> None:
        self.text = ""
        self._parser = parser

    def push(self, text: str) -> str:
        """The content that `text` adds."""
        return self._taken(self._parser.push(text))

    def finish(self) -> str:
        """The rest of it."""
        return self._taken(self._parser.finish())

    def _taken(self, deltas: list[Delta]) -> str:
        new = "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta))
        self.text += new
        return new


def _first(errors: BaseExceptionGroup[TuttiError]) -> TuttiError:
    found = errors.exceptions[0]
    return found if isinstance(found, TuttiError) else _first(found)
