"""`POST /tokenize` and `POST /detokenize`, in vLLM's shapes."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.job import json_response
from tutti.api.openai.parse import parse
from tutti.errors import InvalidRequest
from tutti.request import Chat, Part, Request, Text, Tokens


class TokenizeFields(msgspec.Struct, kw_only=True):
    """A prompt, or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


class DetokenizeFields(msgspec.Struct, kw_only=True):
    """Token ids."""

    tokens: list[int]
    model: str | None = None


async def tokenize(call: Call) -> ASGIApp:
    """Text or a conversation to token ids, however long."""
    fields = parse(call.body, TokenizeFields)
    lease = await call.lease(fields.model)
    model, backend = lease.model, lease.backend
    request = Request(id="tokenize", parts=(_part(fields),), model=model.name)
    request = await backend.tokenize(request)
    ids = [token for part in request.parts if isinstance(part, Tokens) for token in part.ids]
    names = [backend.processor.tokenizer.token(token) for token in ids] if fields.return_token_strs else None
    return json_response(answers.Tokenized(len(ids), model.context, ids, names))


async def detokenize(call: Call) -> ASGIApp:
    """Token ids to text, special tokens shown."""
    fields = parse(call.body, DetokenizeFields)
    lease = await call.lease(fields.model)
    text = lease.backend.processor.tokenizer.decode(fields.tokens, skip_special_tokens=False)
    return json_response(answers.Detokenized(text))


def _part(fields: TokenizeFields) -> Part:
    if fields.messages is not None:
        opens = fields.add_generation_prompt
        return Chat(
            messages=tuple(fields.messages),
            tools=tuple(fields.tools or ()),
            template=fields.chat_template,
            template_kwargs=fields.chat_template_kwargs or {},
            add_generation_prompt=not fields.continue_final_message if opens is None else opens,
            continue_final_message=bool(fields.continue_final_message),
        )
    if fields.prompt is None:
        raise InvalidRequest("Give a prompt or messages.", param="prompt")
    return Text(fields.prompt, fields.add_special_tokens is not False)
