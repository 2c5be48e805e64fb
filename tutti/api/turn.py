"""One answer to a conversation, in no protocol's words: what the doors share that give one answer to a call.

A door reads its client's fields to an `Ask` and tells the deltas that a `Turn` gives in its own events and objects.
Chat completions, which have several answers, log-probabilities and sound, go their own way.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from tutti.api.defaults import answer_length, sampling_defaults
from tutti.api.endpoint import Call
from tutti.api.openai.attachments import gather
from tutti.api.reading import reading
from tutti.errors import ContextOverflow
from tutti.events import Done, Failed, TextDelta, Usage
from tutti.gateway.backend import BackendModel
from tutti.gateway.lease import Lease
from tutti.models.parsers.base import ContentDelta, Delta, OutputParser, ReasoningDelta, ToolCallDelta
from tutti.models.processor.messages import Message, modality_of
from tutti.request import Chat, Media, Request, SamplingParams, StructuredOutputs, Tokens

if TYPE_CHECKING:
    from tutti.models.processor import Processor

_ROOM = 8  # a conversation that is cut to fit leaves an eighth of the context for an answer without a limit


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked. `chat` has messages, tools and choice as chats have them.

    `names` says what the caller calls the part (message, part) of the chat's messages, for errors. `sampling` is what
    the caller said, by the names of `SamplingParams`; the rest is the model's default. `max_tokens` None: until the
    context is full. `truncates`: when the conversation is too long, its oldest messages are left out.
    """

    chat: Chat
    names: Mapping[tuple[int, int], str] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    form: StructuredOutputs | None = None
    parallel_calls: bool = True
    truncates: bool = False


class Turn:
    """One answer under way. After its deltas, what it cost and how it ended are known."""

    def __init__(self, call: Call, lease: Lease, ask: Ask, name: str) -> None:
        """`lease` is of the model that is asked, `name` the answer's id. Raises InvalidRequest."""
        self.id = name
        self.model: BackendModel = lease.model
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.reasoning_tokens = 0  # until the first that is no thought, marks included
        self.reason = "cancelled"
        self.stop: int | str | None = None
        self.called = False  # whether a tool is called
        self._call = call
        self._lease = lease
        self._ask = ask
        self._processor: Processor = lease.backend.processor
        read = reading(self._processor, ask.chat, ask.form, parallel=ask.parallel_calls)
        self._parser: OutputParser | None = read.parsers[0]
        self._thinking = True  # until something else is said
        max_tokens, self._context = answer_length(self.model, ask.max_tokens)
        self.sampling = SamplingParams(
            **{
                **sampling_defaults(self.model, self._processor),
                **ask.sampling,
                "n": 1,
                "max_tokens": max_tokens,
                "structured_outputs": read.form,
                **read.changes,
            }
        )
        self._request: Request | None = None

    async def prepare(self) -> None:
        """Fetch the media and tokenize the prompt, for doors that tell its length before the answer.

        Raises InvalidRequest and its kinds, ContextOverflow among them.
        """
        messages, media = await self._gather()
        try:
            self._request = await self._fitted(messages, media)
        except ContextOverflow:
            if not self._ask.truncates:
                raise
            self._request = await self._truncated(messages, media)
        self.prompt_tokens = _length(self._request)

    async def count(self) -> int:
        """How many tokens the prompt has, however long. Raises InvalidRequest and its kinds."""
        request = self._made(*await self._gather())
        return _length(await self._lease.backend.tokenize(request))

    async def deltas(self) -> AsyncGenerator[list[Delta], None]:
        """What is said, as it comes; the first list, which may be empty, when the request has been taken.

        Raises what ends it early.
        """
        if self._request is None and self._ask.truncates:
            await self.prepare()
        request = self._request or self._made(*await self._gather())
        opened = False
        async with aclosing(self._lease.generate(request, self._call.caller)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, TextDelta):
                    yield self._read(event)
                    opened = True
                elif isinstance(event, Usage):
                    self.prompt_tokens = event.prompt_tokens
                    self.cached_tokens = event.cached_tokens
                    self.output_tokens = event.completion_tokens
                elif isinstance(event, Done):
                    self.reason, self.stop = event.reason, event.stop
                    last = self._kept([] if self._parser is None else self._parser.finish())
                    if last or not opened:
                        yield last

    async def _gather(self) -> tuple[list[Message], list[Media]]:
        return await gather(
            self._ask.chat.messages, self._processor.modalities, self._call.fetching, names=self._ask.names
        )

    def _made(self, messages: Sequence[Message], media: Sequence[Media]) -> Request:
        chat = msgspec.structs.replace(self._ask.chat, messages=tuple(messages))
        return Request(
            id=f"{self.id}-{uuid.uuid4().hex[:8]}",
            parts=(chat, *media),
            sampling=self.sampling,
            model=self.model.name,
            context=self._context,
            arrival=time.time(),
        )

    async def _fitted(self, messages: Sequence[Message], media: Sequence[Media]) -> Request:
        return await self._lease.prepare(self._made(messages, media))

    async def _truncated(self, messages: list[Message], media: list[Media]) -> Request:
        """The prompt without as many of the oldest messages as must go. Raises ContextOverflow where none can."""
        starts = _starts(messages)
        fewest, most = 0, len(starts)  # starts[fewest:most] have to be tried; what begins at `most` fits
        found: Request | None = None
        while fewest < most:
            middle = (fewest + most) // 2
            request = await self._try(*_from(starts[middle], messages, media))
            if request is None:
                fewest = middle + 1
            else:
                found, most = request, middle
        if found is None:
            return await self._fitted(*_from(starts[-1], messages, media) if starts else (messages, media))
        return found

    async def _try(self, messages: list[Message], media: list[Media]) -> Request | None:
        try:
            request = await self._fitted(messages, media)
        except ContextOverflow:
            return None
        room = 0 if self._ask.max_tokens is not None else self.model.context // _ROOM
        return request if _length(request) + room <= self.model.context else None

    def _read(self, event: TextDelta) -> list[Delta]:
        self.output_tokens += len(event.tokens)
        if self._parser is None:
            found: list[Delta] = [ContentDelta(event.text)] if event.text else []
        else:
            found = self._parser.push(event.text) if event.text else []
        found = self._kept(found)
        if any(not isinstance(delta, ReasoningDelta) for delta in found):
            self._thinking = False
        elif found and self._thinking:
            self.reasoning_tokens = self.output_tokens
        return found

    def _kept(self, deltas: Sequence[Delta]) -> list[Delta]:
        """The deltas without calls beside the first, where only one is wanted."""
        kept = [
            delta
            for delta in deltas
            if self._ask.parallel_calls or not isinstance(delta, ToolCallDelta) or delta.index == 0
        ]
        self.called = self.called or any(isinstance(delta, ToolCallDelta) for delta in kept)
        return kept


def _length(request: Request) -> int:
    """Tokens of a request that is prepared."""
    return sum(len(part.ids) for part in request.parts if isinstance(part, Tokens))


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where a conversation may begin later than it does: at what a user says; after the last of that, at an answer."""
    roles = [message.get("role") for message in messages]
    first = next((index for index, role in enumerate(roles) if role not in ("system", "developer")), 0)
    users = [index for index, role in enumerate(roles) if role == "user"]
    last = users[-1] if users else -1
    answers = [index for index, role in enumerate(roles) if role == "assistant" and index > last]
    return [index for index in users + answers if index > first]


def _from(
    start: int, messages: Sequence[Message], media: Sequence[Media]
) -> tuple[list[Message], list[Media]]:
    """The conversation from `start` on, with the instructions before it, and the media that are left."""
    kept: list[Message] = []
    left: list[Media] = []
    place = 0
    for index, message in enumerate(messages):
        content = message.get("content")
        count = sum(modality_of(part) is not None for part in content) if isinstance(content, list) else 0
        if index >= start or message.get("role") in ("system", "developer"):
            kept.append(message)
            left += media[place : place + count]
        place += count
    return kept, left
