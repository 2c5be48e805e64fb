"""What changes the store of models: `/api/pull`, `/api/push`, `/api/create`, `/api/copy`, `/api/delete`, `/api/blobs`.

Transfers and creations run apart from the server's loop and tell how far they are, as lines or, at their end, in one
object. A client that leaves ends its own; what has come of a pull stays, for the next one or for others who want the
same just then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from tutti.api.apart import apart
from tutti.api.endpoint import Call
from tutti.api.ollama.creating import CreateFields
from tutti.api.ollama.errors import NDJSON
from tutti.api.ollama.fields import read
from tutti.api.openai.job import json_response
from tutti.api.stream import EventStream
from tutti.errors import (
    CheckpointError,
    InvalidModelName,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    StoreError,
)
from tutti.formats.gguf.header import describe
from tutti.hub import create as creation
from tutti.hub import pull as pulling
from tutti.hub import push as pushing
from tutti.hub.manifest import check_digest
from tutti.hub.names import parse_name
from tutti.hub.progress import Progress
from tutti.hub.registry import Options
from tutti.hub.store import Store
from tutti.hub.upload import has_blob, receive

_encoder = msgspec.json.Encoder()


class NameFields(msgspec.Struct, kw_only=True):
    """A model; `name` is the older word."""

    model: str | None = None
    name: str | None = None

    @property
    def said(self) -> str:
        """What the model was called."""
        return self.model or self.name or ""


class TransferFields(NameFields, kw_only=True):
    """`POST /api/pull` and `/api/push`. `username` and `password` are of old clients; nothing reads them."""

    insecure: bool | None = None
    stream: bool | None = None
    username: str | None = None
    password: str | None = None


class CopyFields(msgspec.Struct, kw_only=True):
    """`POST /api/copy`."""

    source: str = ""
    destination: str = ""


async def pull(call: Call) -> ASGIApp:
    """A model from its registry into the store."""
    fields = read(call.body, TransferFields)
    name = parse_name(fields.said)
    work = pulling.pull(_store(call), name, Options(insecure=bool(fields.insecure)))
    return await _told(work, fields.stream)


async def push(call: Call) -> ASGIApp:
    """A model of the store to its registry."""
    fields = read(call.body, TransferFields)
    if not fields.said:
        raise InvalidRequest("model is required", param="model")
    work = pushing.push(_store(call), parse_name(fields.said), Options(insecure=bool(fields.insecure)))
    return await _told(work, fields.stream)


async def create(call: Call) -> ASGIApp:
    """A model of another one, or of files that were sent before."""
    fields = read(call.body, CreateFields)
    name, modelfile, quantizer = parse_name(fields.said), fields.commands(), fields.quantizer()
    work = creation.create(_store(call), name, modelfile, describe, files=fields.files, quantizer=quantizer)
    return await _told(_blaming(work), fields.stream)


async def copy(call: Call) -> ASGIApp:
    """A second name for a model."""
    fields, store = read(call.body, CopyFields), _store(call)
    for what, name in (("source", fields.source), ("destination", fields.destination)):
        _checked(name, f'{what} "{name}" is invalid', what)
    try:
        await asyncio.to_thread(store.copy, fields.source, fields.destination)
    except ModelNotFound as error:
        raise ModelNotFound(f'model "{fields.source}" not found', param="source") from error
    return Response()


async def delete(call: Call) -> ASGIApp:
    """A model no more; one that is in memory goes when nobody uses it."""
    name, store = read(call.body, NameFields).said, _store(call)
    _checked(name, f'name "{name}" is invalid', "model")
    with suppress(ModelNotFound):  # whether it is there is for the store to say
        await call.gateway.unload(name)
    await asyncio.to_thread(store.delete, name)
    return Response()


async def head_blob(call: Call) -> ASGIApp:
    """Whether a blob is here."""
    digest, store = _digest(call), _store(call)
    if not await asyncio.to_thread(has_blob, store, digest):
        raise NotFound(f'blob "{digest}" not found', param="digest")
    return Response()


async def post_blob(call: Call) -> ASGIApp:
    """Take a blob, whatever its size; nothing is read of one that is here."""
    digest, store = _digest(call), _store(call)
    if await asyncio.to_thread(has_blob, store, digest):
        return Response()
    await receive(store, digest, call.chunks, call.length)
    return Response(status_code=201)


def _store(call: Call) -> Store:
    if call.store is None:
        raise NotFound("this server has no store of models")
    return call.store


def _checked(name: str, otherwise: str, param: str) -> None:
    try:
        parse_name(name)
    except InvalidModelName as error:
        raise InvalidModelName(otherwise, param=param) from error


def _digest(call: Call) -> str:
    try:
        return check_digest(call.path["digest"])
    except StoreError as error:
        raise InvalidRequest("invalid digest format", param="digest") from error


async def _told(work: AsyncGenerator[Progress, None], stream: bool | None) -> ASGIApp:
    """The response that tells how `work` goes. Raises what ends it before it has begun, or at all if nobody streams."""
    if stream is not False:
        return await EventStream.open(_lines(apart(work)), NDJSON)
    last = Progress("")
    async with aclosing(apart(work)) as told:
        async for progress in told:
            last = progress
    return json_response(last.as_json())


async def _lines(told: AsyncGenerator[Progress, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(told):
        async for progress in told:
            yield _encoder.encode(progress.as_json()) + b"\n"


async def _blaming(work: AsyncGenerator[Progress, None]) -> AsyncGenerator[Progress, None]:
    """A creation; what is wrong with the files is the caller's fault, for the caller has sent or named them."""
    async with aclosing(work):
        try:
            async for progress in work:
                yield progress
        except CheckpointError as error:
            raise InvalidRequest(error.message, param="files") from error
