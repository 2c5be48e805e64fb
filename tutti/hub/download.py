"""One blob over HTTP into the store: in parts at once, gone on with after a cut, checked before it counts.

Who downloads a blob holds its lock. Others who want it, in this process or another, wait for that one, show how far it
is, and go on from there should it give up: no byte is fetched twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tutti.errors import StoreError, TransferError
from tutti.hub.locks import held
from tutti.hub.manifest import Layer
from tutti.hub.partial import Part, Partial, completed_of, open_partial, remove_partial
from tutti.hub.registry import Client, Temporary, refusal
from tutti.hub.store import Store, writing

_WRITE = 1 << 20  # bytes that are written at once,
_LATEST = 0.2  # or after so many seconds
_ADVICE = "; what has come is kept: repeat the command to go on"


@dataclass(slots=True)
class Transfer:
    """How far a blob is, for who shows it. Bytes."""

    layer: Layer
    completed: int = 0
    arrived: bool = False  # all of it is here; it may be being checked


class _NoRanges(Exception):
    """The server sends the whole file whatever part it is asked for."""


class Downloader:
    """Downloads for one pull: its connections are shared by all blobs."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store
        self._options = client.options
        self._connections = asyncio.Semaphore(client.options.connections)

    async def blob(self, url: str, transfer: Transfer) -> None:
        """Have the blob of `transfer` in the store. Raises StoreError, TransferError, ModelNotFound, Unauthorized."""
        layer = transfer.layer
        path = self._store.blob_path(layer.digest)
        partial = path.with_name(f"{path.name}-partial")

        def waiting() -> None:
            transfer.completed = min(completed_of(partial), layer.size)

        async with held(self._store.locks / path.name, waiting):
            if not await asyncio.to_thread(self._store.adopt, layer):
                resumed = await self._fetch(url, partial, layer.size, transfer)
                found = await asyncio.to_thread(_digest, partial, layer.size)
                if found != layer.digest and resumed:  # what was here before may be what is wrong
                    remove_partial(partial)
                    await self._fetch(url, partial, layer.size, transfer)
                    found = await asyncio.to_thread(_digest, partial, layer.size)
                if found != layer.digest:
                    remove_partial(partial)
                    raise TransferError(
                        f"digest mismatch, file must be downloaded again: want {layer.digest}, got {found}"
                    )
                await asyncio.to_thread(self._store.settle, partial, layer.digest)
                remove_partial(partial)
            transfer.completed, transfer.arrived = layer.size, True

    async def file(self, url: str, partial: Path, transfer: Transfer, tag: str) -> str:
        """Have the file at `url` at `partial`, whole; its digest. The size is `transfer`'s, the version `tag`.

        The caller holds a lock on `partial`. Raises as `blob` does.
        """
        await self._fetch(url, partial, transfer.layer.size, transfer, tag)
        return await asyncio.to_thread(_digest, partial, transfer.layer.size)

    async def _fetch(self, url: str, path: Path, size: int, transfer: Transfer, tag: str = "") -> bool:
        """All parts that are not here yet; whether there were some before."""
        options = self._options
        with writing(self._store.root):
            partial = open_partial(path, size, options.part_min, options.part_max, tag)
            resumed = partial.completed > 0
            self._store.check_space(size - partial.completed)
            with partial:
                try:
                    await self._parts(url, partial, transfer)
                except _NoRanges:
                    partial.restart([Part(0, size)])
                    await self._parts(url, partial, transfer)
        transfer.completed, transfer.arrived = size, True
        return resumed

    async def _parts(self, url: str, partial: Partial, transfer: Transfer) -> None:
        async def one(part: Part) -> None:
            async with self._connections:
                await self._client.retried(
                    lambda: self._part(url, partial, part, transfer), lambda: part.completed, _ADVICE
                )

        transfer.completed = partial.completed
        await together(one(part) for part in partial.parts if part.completed < part.size)

    async def _part(self, url: str, partial: Partial, part: Part, transfer: Transfer) -> None:
        """One try at what is left of a part. Raises Temporary, _NoRanges and the errors of `blob`."""
        start, end = part.offset + part.completed, part.offset + part.size - 1
        headers = {"Range": f"bytes={start}-{end}"}
        async with self._client.request("GET", url, headers) as response:
            if response.status_code == 200:
                if len(partial.parts) > 1:
                    raise _NoRanges
                part.completed = 0
            elif response.status_code != 206:
                raise await refusal(response, f"blob {transfer.layer.digest or url} does not exist there")
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise TransferError(f"{response.url.host} sends another part than it was asked for")
            await self._receive(response, partial, part, transfer)
        if part.completed < part.size:
            raise Temporary("the connection ended before the data")

    async def _receive(
        self, response: httpx.Response, partial: Partial, part: Part, transfer: Transfer
    ) -> None:
        """Write what comes, some of it at a time, and no more than the part has."""
        buffer, last = bytearray(), time.monotonic()

        async def flush() -> None:
            nonlocal last
            data = bytes(buffer)
            buffer.clear()
            await asyncio.to_thread(partial.write, part, data)
            last, transfer.completed = time.monotonic(), partial.completed

        try:
            async for piece in response.aiter_raw():
                buffer += piece[: part.size - part.completed - len(buffer)]
                complete = part.completed + len(buffer) == part.size
                if complete or len(buffer) >= _WRITE or time.monotonic() - last > _LATEST:
                    await flush()
                if complete:
                    return
        except httpx.HTTPError:
            await flush()  # what came before the cut counts
            raise
        except asyncio.CancelledError:
            partial.write(
                part, bytes(buffer)
            )  # no thread writes now: what it took is no longer in the buffer
            raise


async def together(work: Iterable[Coroutine[Any, Any, None]], at_once: int | None = None) -> None:
    """All of `work`, as many `at_once` as may be; the first error ends the others, and is raised as it is."""
    turns = nullcontext() if at_once is None else asyncio.Semaphore(at_once)

    async def in_turn(one: Coroutine[Any, Any, None]) -> None:
        async with turns:
            await one

    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(in_turn(one))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseException) -> BaseException:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


def _digest(path: Path, size: int) -> str:
    if path.stat().st_size != size:
        raise StoreError(f"{path} has another length than was downloaded")
    return Partial(path, size, "", []).digest()
