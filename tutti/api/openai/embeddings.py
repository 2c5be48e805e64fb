"""`POST /v1/embeddings`: texts as vectors; and `POST /pooling`, vLLM's path for whatever vector a model makes."""

from __future__ import annotations

import base64
import struct
import time
import uuid
from typing import Any, Literal

import msgspec
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.fields import MAX_PROMPTS
from tutti.api.openai.job import json_response
from tutti.api.openai.parse import parse
from tutti.api.pooled import pool
from tutti.errors import InvalidRequest
from tutti.request import POOLED, Part, PoolingParams, Text, Tokens


class EmbeddingFields(msgspec.Struct, kw_only=True):
    """A text or token ids, or a list of either; the fields are OpenAI's and vLLM's, `prompt_name` is of servers for
    sentence-transformers."""

    input: str | list[str | int | list[int]] | None = None
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    truncate_prompt_tokens: int | None = None
    normalize: bool | None = None
    use_activation: bool | None = None
    add_special_tokens: bool | None = None
    prompt_name: str | None = None
    priority: int | None = None
    messages: Any = None

    @property
    def wishes(self) -> PoolingParams:
        """How the vectors are made. Raises InvalidRequest."""
        return PoolingParams(
            dimensions=self.dimensions,
            normalize=self.normalize,
            use_activation=self.use_activation,
            truncate_prompt_tokens=self.truncate_prompt_tokens,
            prompt=self.prompt_name,
        )

    @property
    def parts(self) -> list[Part]:
        """What each vector is made of. Raises InvalidRequest."""
        if self.messages is not None:
            raise InvalidRequest("messages is not supported here: give input.", param="messages")
        given, special = self.input, self.add_special_tokens is not False
        if isinstance(given, str):
            return [Text(given, special)]
        if not given:
            raise InvalidRequest(
                "input is missing: give text, token ids, or a list of either.", param="input"
            )
        ids = [item for item in given if isinstance(item, int)]
        if len(ids) == len(given):
            return [Tokens(tuple(ids))]
        if ids:
            raise InvalidRequest("input mixes token ids with texts; give one or the other.", param="input")
        if len(given) > MAX_PROMPTS:
            raise InvalidRequest(
                f"At most {MAX_PROMPTS} texts may come in one call, got {len(given)}.", param="input"
            )
        return [
            Text(item, special) if isinstance(item, str) else Tokens(tuple(item))
            for item in given
            if not isinstance(item, int)
        ]


async def embeddings(call: Call) -> ASGIApp:
    """A vector for each text. What is longer than the model takes is refused, unless the caller has it cut."""
    return await _answer(call, parse(call.body, EmbeddingFields), "embd", "embedding")


async def pooling(call: Call) -> ASGIApp:
    """The same, also of a model that scores."""
    return await _answer(call, parse(call.body, EmbeddingFields), "pool", None)


async def _answer(call: Call, fields: EmbeddingFields, prefix: str, modality: str | None) -> ASGIApp:
    """The vectors of `modality`; None: whichever the model gives."""
    leased = await call.lease(fields.model)
    model = leased.model
    own = next((output for output in model.outputs if output in POOLED), "embedding")
    name = f"{prefix}-{call.caller.call or uuid.uuid4().hex}"
    found = await pool(
        call,
        leased,
        fields.parts,
        modality or own,
        fields.wishes,
        name=f"{name}-{uuid.uuid4().hex[:8]}",
        priority=fields.priority or 0,
    )
    values = [encoded(vector, fields.encoding_format) for vector in found.vectors]
    usage = answers.Usage(found.tokens, 0, found.tokens)
    if modality is None:
        data: Any = [answers.PooledObject(number, value) for number, value in enumerate(values)]
    else:
        data = [answers.EmbeddingObject(number, value) for number, value in enumerate(values)]
    return json_response(answers.VectorList(name, int(time.time()), model.name, data, usage))


def encoded(vector: tuple[float, ...], form: str) -> list[float] | str:
    """The numbers, or base64 of their little-endian float32."""
    if form == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return list(vector)
