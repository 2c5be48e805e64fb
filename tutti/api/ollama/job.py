"""What both endpoints share: a call under way, its model, what it may ask of it, and its answer as lines or whole."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.ollama.answering import Answering, Piece
from tutti.api.ollama.answers import Account
from tutti.api.ollama.errors import NDJSON
from tutti.api.ollama.fields import AnswerFields
from tutti.api.ollama.history import Conversation
from tutti.api.ollama.names import lease, looking_for
from tutti.api.ollama.options import Options
from tutti.api.openai.attachments import gather
from tutti.api.openai.job import json_response
from tutti.api.openai.logprobs import LogprobEncoder
from tutti.api.stream import EventStream
from tutti.errors import ContextOverflow
from tutti.events import Event
from tutti.gateway.abilities import (
    COMPLETION,
    THINKING,
    capabilities,
    lacking,
    sense_for,
)
from tutti.gateway.backend import Backend, BackendModel
from tutti.gateway.lease import Lease, Wants
from tutti.models.parsers.base import OutputParser
from tutti.models.processor.messages import Message, modality_of
from tutti.request import Chat, Media, Part, Request, Tokens

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Job:
    """One call: `started` is when it came, by `time.perf_counter_ns`; `able` is what the model can do."""

    call: Call
    fields: AnswerFields
    lease: Lease
    options: Options
    able: tuple[str, ...]
    started: int

    @classmethod
    async def of(cls, call: Call, fields: AnswerFields, started: int, verb: str) -> Job:
        """The job of `fields`, whose model must be able to `verb` ("chat").

        Raises InvalidRequest, and as `Call.lease` does.
        """
        wanted = Options.of(fields.options)
        leased = await lease(call, fields.name, Wants(wanted.context, fields.stays))
        backend = leased.backend
        options = Options.of(leased.model.preset.parameters | wanted.given)
        able = tuple(capabilities(backend, leased.model))
        if COMPLETION not in able or (verb == "chat" and not backend.processor.converses):
            raise lacking(fields.name, verb)
        if fields.think not in (None, False) and THINKING not in able:
            raise lacking(fields.name, "thinking")
        return cls(call, fields, leased, options, able, started)

    @property
    def model(self) -> BackendModel:
        """The model that is asked."""
        return self.lease.model

    @property
    def backend(self) -> Backend:
        """What answers for it."""
        return self.lease.backend

    @property
    def context(self) -> int:
        """How many tokens prompt and answer may have together."""
        return min(self.options.context or self.model.context, self.model.context)

    @property
    def shifts(self) -> bool:
        """Whether an answer goes on in a full context. One of a given form is not: its beginning would be missed."""
        return self.fields.shift is not False and self.fields.form is None

    @property
    def keep(self) -> int:
        """How many of the first tokens stay where the context is full, the one with which a text begins among them."""
        kept = self.options.keep
        tokenizer = self.backend.processor.tokenizer
        begins = tokenizer.encode("", True)[:1] == [tokenizer.bos_id]
        return self.context if kept is None else kept + begins

    async def fitting(self, request: Request) -> Request:
        """`request` as tokens; a prompt that does not fit loses the older half of what cannot be kept.

        Raises ContextOverflow where that is not wanted, or not possible: media are not cut.
        """
        try:
            return await self.lease.prepare(request)
        except ContextOverflow:
            media = any(isinstance(part, Media) for part in request.parts)
            if media or False in (self.fields.truncate, self.fields.shift):
                raise
        ids = [
            token
            for part in (await self.backend.tokenize(request)).parts
            if isinstance(part, Tokens)
            for token in part.ids
        ]
        keep = min(self.keep, self.context - 2)
        room = self.context - keep - max((self.context - keep) // 2, 1)
        log.warning("request %s: %d tokens of its prompt are left out", request.id, len(ids) - keep - room)
        return await self.lease.prepare(
            msgspec.structs.replace(request, parts=(Tokens((*ids[:keep], *ids[-room:])),))
        )

    @property
    def thinks(self) -> bool:
        """Whether thoughts are wanted. Who does not say wants them of a model that has them, but not before a form."""
        if self.fields.think is None:
            return THINKING in self.able and self.fields.form is None
        return self.fields.think is not False

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template is told of thinking."""
        if THINKING not in self.able:
            return {}
        variables: dict[str, Any] = {"enable_thinking": self.thinks}
        if isinstance(self.fields.think, str):
            variables["reasoning_effort"] = self.fields.think
        return variables

    async def gather(self, messages: Sequence[Message]) -> Conversation:
        """The messages with the media in them. Raises InvalidRequest, FetchError."""
        takes = self.backend.processor.modalities
        for message in messages:
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
                modality = modality_of(part)
                if modality is not None and modality not in takes:
                    raise lacking(self.fields.name, sense_for(modality))
        marked, media = await gather(messages, takes, self.call.fetching)
        return Conversation(tuple(marked), tuple(media))

    def request(self, parts: Sequence[Part], chat: Chat | None) -> tuple[Request, Answering]:
        """The request of `parts`, `chat` among them if it is one, and who reads the answer. Raises InvalidRequest."""
        processor = self.backend.processor
        form = self.fields.form
        parser: OutputParser | None = None
        if chat is not None and (form is None or self.thinks):
            parser = processor.output_parser(chat)
            form = form and processor.thoughtful(form, chat)
        top = (self.fields.top_logprobs or 0) if self.fields.logprobs else None
        sampling = self.options.sampling(
            processor.generation_defaults,
            logprobs=top,
            form=form,
            skip_special_tokens=parser is None or not parser.needs_special_tokens,
        )
        request = Request(
            id=f"ollama-{self.call.caller.call}-{uuid.uuid4().hex[:8]}",
            parts=tuple(parts),
            sampling=sampling,
            model=self.model.name,
            arrival=time.time(),
            context=self.context,
            shift=self.keep if self.shifts else None,
        )
        encoder = LogprobEncoder(processor.tokenizer, top or 0)
        return request, Answering(
            parser, encoder, self.started, show_thinking=self.thinks, loading=self.lease.waited
        )


async def respond(
    job: Job,
    answering: Answering,
    events: AsyncGenerator[Event, None],
    shape: Callable[[Piece, dict[str, Any] | None], Account],
) -> ASGIApp:
    """The response: lines as they come, or one object. `shape` makes it of a piece, and of the account at the end.

    Raises what comes instead of an answer.
    """
    if job.fields.stream is not False:
        return await EventStream.open(_lines(answering, events, shape), NDJSON)
    whole = Piece()
    async for piece in answering.pieces(events):
        whole.add(piece)
    return json_response(shape(whole, answering.account()))


async def _lines(
    answering: Answering,
    events: AsyncGenerator[Event, None],
    shape: Callable[[Piece, dict[str, Any] | None], Account],
) -> AsyncGenerator[bytes, None]:
    async for piece in answering.pieces(events):
        yield _encoder.encode(shape(piece, None)) + b"\n"
    yield _encoder.encode(shape(Piece(), answering.account())) + b"\n"


async def idle(
    call: Call,
    fields: AnswerFields,
    started: int,
    verb: str,
    shape: Callable[[Piece, dict[str, Any] | None], Account],
) -> ASGIApp:
    """The response to a call without a prompt: it has the model loaded, or unloaded with `keep_alive` 0."""
    reason = "load"
    if fields.stays == 0:
        reason = "unload"
        with looking_for(fields.name):
            await call.gateway.unload(fields.name)
    else:
        await Job.of(call, fields, started, verb)
    return json_response(shape(Piece(), {"done_reason": reason}))
