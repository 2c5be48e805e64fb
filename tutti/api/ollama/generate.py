"""`POST /api/generate`: a prompt answered, by the model's template or as it stands."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.ollama.answering import Answering, Piece
from tutti.api.ollama.answers import GenerateResponse, timestamp
from tutti.api.ollama.fields import GenerateFields, MessageFields, read
from tutti.api.ollama.history import conversation
from tutti.api.ollama.job import Job, idle, respond
from tutti.api.ollama.names import full
from tutti.errors import InvalidRequest
from tutti.gateway.abilities import INSERT
from tutti.request import Chat, Insertion, Request, Text, Tokens


async def generate(call: Call) -> ASGIApp:
    """Answer one call, streaming or not."""
    started = time.perf_counter_ns()
    fields = read(call.body, GenerateFields)
    if not fields.prompt and not fields.images and not fields.suffix:
        return await idle(call, fields, started, "generate", partial(_shape, fields.name, None, ()))
    job = await Job.of(call, fields, started, "generate")
    if fields.suffix and not fields.template and INSERT not in job.able:
        raise InvalidRequest(f"{full(fields.name)} does not support insert", param="suffix")
    if not fields.raw and fields.suffix:
        request, answering = _inserted(job, fields)
    elif fields.raw or not (fields.template or job.backend.processor.has_chat_template):
        request, answering = _raw(job, fields)
    else:
        request, answering = await _templated(job, fields)
    request = await job.fitting(request)
    kept = None if fields.raw or fields.images else answering  # the ids of a picture alone mean nothing
    shape = partial(_shape, fields.name, kept, _ids(request))
    return await respond(job, answering, job.lease.generate(request, call.caller), shape)


def _raw(job: Job, fields: GenerateFields) -> tuple[Request, Answering]:
    """The prompt as it stands, behind the earlier turns' tokens. Raises InvalidRequest."""
    if fields.images:
        raise InvalidRequest("images need the model's template: leave raw out", param="images")
    text = Text("\n\n".join(part for part in (fields.system, fields.prompt) if part), not fields.context)
    return job.request((*_before(fields), text), None)


def _inserted(job: Job, fields: GenerateFields) -> tuple[Request, Answering]:
    """What is between the prompt and the suffix. Raises InvalidRequest."""
    if fields.images:
        raise InvalidRequest("images cannot go with a suffix: leave one of the two out", param="images")
    part = Insertion(fields.prompt or "", fields.suffix or "", fields.template or None)
    return job.request((*_before(fields), part), None)


async def _templated(job: Job, fields: GenerateFields) -> tuple[Request, Answering]:
    """A conversation of one turn, behind the earlier turns' tokens. Raises InvalidRequest, FetchError."""
    messages = [MessageFields(role="user", content=fields.prompt, images=fields.images)]
    if fields.system:
        messages.insert(0, MessageFields(role="system", content=fields.system))
    said = await job.gather(conversation(messages))
    chat = Chat(
        said.messages,
        tool_choice="none",
        go_template=fields.template or None,
        template_kwargs=job.template_kwargs,
        begins=not fields.context,
    )
    request, answering = job.request((chat, *said.media), chat)
    if fields.context:
        request = await _behind(job, fields, request)
    return request, answering


async def _behind(job: Job, fields: GenerateFields, request: Request) -> Request:
    """`request` behind the earlier turns' tokens, in whose middle no text begins anew."""
    if any(not isinstance(part, Chat) for part in request.parts):
        return msgspec.structs.replace(request, parts=(*_before(fields), *request.parts))
    ids = _ids(await job.backend.tokenize(request))
    if ids[:1] == (job.backend.processor.tokenizer.bos_id,):
        ids = ids[1:]
    return msgspec.structs.replace(request, parts=(*_before(fields), Tokens(ids)))


def _before(fields: GenerateFields) -> tuple[Tokens, ...]:
    return (Tokens(tuple(fields.context)),) if fields.context else ()


def _ids(request: Request) -> tuple[int, ...]:
    """The tokens of a request that is tokenized."""
    return tuple(token for part in request.parts if isinstance(part, Tokens) for token in part.ids)


def _shape(
    name: str,
    answering: Answering | None,
    prompt: tuple[int, ...],
    piece: Piece,
    account: dict[str, Any] | None,
) -> GenerateResponse:
    """`answering` and the prompt's tokens are what the last line's `context` is made of, where it has one."""
    whole = account is not None and answering is not None
    return GenerateResponse(
        model=name,
        created_at=timestamp(time.time()),
        response=piece.content,
        done=account is not None,
        thinking=piece.thinking,
        context=[*prompt, *answering.tokens] if whole and answering is not None else UNSET,
        tool_calls=piece.calls or UNSET,
        logprobs=piece.logprobs or UNSET,
        **(account or {}),
    )
