"""`POST /api/chat`: a conversation continued."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.ollama.answering import Piece
from tutti.api.ollama.answers import ChatResponse, Message, timestamp
from tutti.api.ollama.fields import ChatFields, read
from tutti.api.ollama.history import Conversation, conversation
from tutti.api.ollama.job import Job, idle, respond
from tutti.api.ollama.names import full
from tutti.api.openai.fields import PictureFields
from tutti.errors import ContextOverflow, InvalidRequest
from tutti.events import Event
from tutti.gateway.abilities import IMAGE, TOOLS, lacking
from tutti.request import Chat, Drawing, Request

log = logging.getLogger(__name__)

_ROOM = 4  # a conversation that is made shorter leaves a fourth of the context for the answer


async def chat(call: Call) -> ASGIApp:
    """Answer one call, streaming or not."""
    started = time.perf_counter_ns()
    fields = read(call.body, ChatFields)
    if not fields.name:
        raise InvalidRequest("model is required", param="model")
    shape = partial(_shape, fields.name)
    if not fields.messages:
        return await idle(call, fields, started, "chat", shape)
    job = await Job.of(call, fields, started, "chat")
    if fields.tools and TOOLS not in job.able:
        raise InvalidRequest(f"{full(fields.name)} does not support tools", param="tools")
    said = await job.gather(conversation(fields.messages))
    turn = _chat(job, fields, said)
    request, answering = job.request((turn, *said.media), turn)
    request = _drawn(job, fields, request)
    return await respond(job, answering, _events(job, fields, said, request), shape)


def _chat(job: Job, fields: ChatFields, said: Conversation) -> Chat:
    return Chat(
        messages=said.messages,
        tools=tuple(fields.tools or ()),
        tool_choice="auto" if fields.tools else "none",
        template_kwargs=job.template_kwargs,
    )


def _drawn(job: Job, fields: ChatFields, request: Request) -> Request:
    """`request`, whose answer may have a picture if that is asked for. Raises InvalidRequest."""
    if "image" not in (fields.modalities or ()):
        return request
    if IMAGE not in job.able:
        raise lacking(fields.name, "image output")
    parts = (*request.parts, (fields.image or PictureFields()).drawing)
    return msgspec.structs.replace(request, parts=parts, modalities=("text", "image"))


async def _events(
    job: Job, fields: ChatFields, said: Conversation, request: Request
) -> AsyncGenerator[Event, None]:
    """The events of `request`, or of a shorter one where the conversation does not fit. Raises ContextOverflow."""
    lease, caller = job.lease, job.call.caller
    try:
        async with aclosing(lease.generate(request, caller)) as events:
            async for event in events:
                yield event
        return
    except ContextOverflow:  # it comes before the first event, if it comes
        if fields.truncate is False:
            raise
    shorter = request if not said.turns else await _shortened(job, fields, said, request)
    shorter = await job.fitting(shorter)
    async with aclosing(lease.generate(shorter, caller)) as events:
        async for event in events:
            yield event


async def _shortened(job: Job, fields: ChatFields, said: Conversation, request: Request) -> Request:
    """`request` without as many of the oldest turns as it must lose. Raises ContextOverflow."""
    context = job.context
    room = min(job.options.answer or context, context // _ROOM)

    def without(turns: int) -> Request:
        kept = said.without(turns)
        drawn = [part for part in request.parts if isinstance(part, Drawing)]
        return msgspec.structs.replace(request, parts=(_chat(job, fields, kept), *kept.media, *drawn))

    async def fits(turns: int) -> bool:
        tried = msgspec.structs.replace(without(turns), context=context - room)
        try:
            await job.lease.prepare(tried)
        except ContextOverflow:
            return False
        return True

    low, high = 1, said.turns  # the fewest turns lie between; without `high` it is as short as it gets
    while low < high:
        middle = (low + high) // 2
        if await fits(middle):
            high = middle
        else:
            low = middle + 1
    log.warning("request %s: the oldest %d of %d turns are left out", request.id, low, said.turns + 1)
    return without(low)


def _shape(name: str, piece: Piece, account: dict[str, Any] | None) -> ChatResponse:
    return ChatResponse(
        model=name,
        created_at=timestamp(time.time()),
        message=Message(
            "assistant", piece.content, piece.thinking, piece.calls or UNSET, piece.images or UNSET
        ),
        done=account is not None,
        completed=piece.step[0],
        total=piece.step[1],
        logprobs=piece.logprobs or UNSET,
        **(account or {}),
    )
