"""`POST /api/embed` and `/api/embeddings`: what a model that answers says to those who want vectors of it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.ollama.fields import read
from tutti.api.ollama.names import find
from tutti.errors import InvalidRequest, ModelNotFound
from tutti.gateway.abilities import lacking


class EmbedFields(msgspec.Struct, kw_only=True):
    """`POST /api/embed`: a text, or several."""

    model: str | None = None
    input: Any = None


class EmbeddingsFields(msgspec.Struct, kw_only=True):
    """`POST /api/embeddings`, the older one: one text."""

    model: str | None = None
    prompt: str | None = None


async def embed(call: Call) -> ASGIApp:
    """Raises InvalidRequest: no model that is served here gives vectors. Raises ModelNotFound."""
    fields = read(call.body, EmbedFields)
    texts = [fields.input] if isinstance(fields.input, str) or fields.input is None else fields.input
    if not isinstance(texts, list) or not all(isinstance(text, str | None) for text in texts):
        raise InvalidRequest("invalid input type", param="input")
    raise await _refusal(call, fields.model or "")


async def embeddings(call: Call) -> ASGIApp:
    """The same, for the older path."""
    raise await _refusal(call, read(call.body, EmbeddingsFields).model or "")


async def _refusal(call: Call, name: str) -> InvalidRequest:
    try:
        await find(call, name)
    except ModelNotFound as error:
        words = f'model "{name}" not found, try pulling it first' if name else error.message
        raise ModelNotFound(words, param="model") from error
    return lacking(name, "embeddings")
