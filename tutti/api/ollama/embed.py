"""`POST /api/embed` and the older `/api/embeddings`: texts as vectors, or what a model says that makes none."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.ollama.answers import EmbeddingsResponse, EmbedResponse
from tutti.api.ollama.fields import ModelFields, read
from tutti.api.ollama.names import lease
from tutti.api.ollama.options import Options
from tutti.api.openai.job import json_response
from tutti.api.pooled import Pooled, pool
from tutti.errors import ContextOverflow, InvalidRequest, ModelNotFound
from tutti.gateway.abilities import lacking
from tutti.gateway.lease import Lease, Wants
from tutti.request import PoolingParams, Text

_CUT = -1  # to what the model takes


class EmbedFields(ModelFields, kw_only=True):
    """`POST /api/embed`: a text, or several. `truncate`, unless it is false, cuts what is too long."""

    input: Any = None
    truncate: bool | None = None
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        """The texts; none where there is nothing in `input`. Raises InvalidRequest."""
        if isinstance(self.input, str):
            return [self.input] if self.input else []
        texts = [] if self.input is None else self.input
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InvalidRequest("invalid input type", param="input")
        return texts


class EmbeddingsFields(ModelFields, kw_only=True):
    """`POST /api/embeddings`, the older one: one text."""

    prompt: str | None = None


async def embed(call: Call) -> ASGIApp:
    """A vector of the length 1 for each text. Raises InvalidRequest, ModelNotFound."""
    started = time.perf_counter_ns()
    fields = read(call.body, EmbedFields)
    texts = fields.texts
    leased = await _lease(call, fields)
    wishes = PoolingParams(
        dimensions=fields.dimensions or None,
        normalize=True,
        truncate_prompt_tokens=None if fields.truncate is False else _CUT,
    )
    found = await _vectors(call, fields, leased, texts, wishes)
    total = time.perf_counter_ns() - started
    load = min(total, round(leased.waited * 1e9))
    return json_response(
        EmbedResponse(fields.name, [list(vector) for vector in found.vectors], total, load, found.tokens)
    )


async def embeddings(call: Call) -> ASGIApp:
    """The vector of one text, as long as the model makes it. Raises InvalidRequest, ModelNotFound."""
    fields = read(call.body, EmbeddingsFields)
    leased = await _lease(call, fields)
    wishes = PoolingParams(normalize=False, truncate_prompt_tokens=_CUT)
    found = await _vectors(call, fields, leased, [fields.prompt] if fields.prompt else [], wishes)
    return json_response(EmbeddingsResponse(list(found.vectors[0]) if found.vectors else []))


async def _vectors(
    call: Call, fields: ModelFields, leased: Lease, texts: Sequence[str], wishes: PoolingParams
) -> Pooled:
    """The vectors of `texts`. Raises InvalidRequest in Ollama's words."""
    options = Options.of(fields.options)
    if not texts:
        return Pooled(0)
    name = f"ollama-{call.caller.call}-{uuid.uuid4().hex[:8]}"
    parts = [Text(text) for text in texts]
    try:
        return await pool(call, leased, parts, "embedding", wishes, name=name, context=options.context)
    except ContextOverflow as error:
        raise ContextOverflow("the input length exceeds the context length", param="input") from error


async def _lease(call: Call, fields: ModelFields) -> Lease:
    """The model, which must make vectors. Raises InvalidRequest, ModelNotFound, and as `Call.lease` does."""
    name = fields.name
    try:
        leased = await lease(call, name, Wants(Options.of(fields.options).context, fields.stays))
    except ModelNotFound as error:
        words = f'model "{name}" not found, try pulling it first' if name else error.message
        raise ModelNotFound(words, param="model") from error
    if not leased.model.gives("embedding"):
        raise lacking(name, "embeddings")
    return leased
