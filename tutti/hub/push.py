"""Pushing: a stored model to a registry. Blobs that it has are not sent; an upload that was cut goes on."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

import httpx

from tutti.errors import ModelNotFound, TransferError
from tutti.hub.download import Transfer, together
from tutti.hub.manifest import MANIFEST_TYPE, Layer, Manifest
from tutti.hub.names import ModelName, parse_name
from tutti.hub.progress import Progress
from tutti.hub.pull import AT_ONCE, followed
from tutti.hub.registry import Options, Repository, Temporary, connected, refusal
from tutti.hub.store import Store

_READ = 1 << 18  # bytes read from the disk at once


async def push(
    store: Store, name: str | ModelName, options: Options | None = None
) -> AsyncGenerator[Progress, None]:
    """Push the model `name` to the registry that its name says.

    Raises InvalidModelName, InvalidRequest (http that was not allowed), ModelNotFound, Unauthorized, TransferError,
    StoreError.
    """
    name = parse_name(name)
    yield Progress("retrieving manifest")
    try:
        manifest = store.get(name).manifest
    except ModelNotFound:
        yield Progress("couldn't retrieve manifest")
        raise
    transfers = [Transfer(layer) for layer in manifest.blobs()]
    async with connected(name, options or Options()) as repository:
        pusher = _Pusher(store, repository)
        uploads = together((pusher.blob(transfer) for transfer in transfers), AT_ONCE)
        async with aclosing(followed(uploads, transfers, "pushing")) as told:
            async for progress in told:
                yield progress
        yield Progress("pushing manifest")
        await pusher.manifest(manifest)
    yield Progress("success")


@dataclass(slots=True)
class _Upload:
    """Where an upload goes on: the address for the next part (it changes), and the bytes that the registry has."""

    url: str
    offset: int = 0


class _Pusher:
    """Sends to one repository."""

    def __init__(self, store: Store, repository: Repository) -> None:
        self._store = store
        self._repository = repository
        self._client = repository.client

    async def blob(self, transfer: Transfer) -> None:
        """Have a blob at the registry."""
        layer = transfer.layer
        if not await self._client.retried(lambda: self._has(layer)):
            upload = await self._client.retried(lambda: self._begin(layer))
            if upload is not None:
                await self._send(layer, upload, transfer)
        transfer.completed, transfer.arrived = layer.size, True

    async def manifest(self, manifest: Manifest) -> None:
        """Give the registry the manifest, byte for byte."""
        url = self._repository.url("manifests", self._repository.name.tag)

        async def put() -> None:
            headers = {"Content-Type": MANIFEST_TYPE}
            async with self._client.request("PUT", url, headers, manifest.raw) as response:
                await _taken(response)

        await self._client.retried(put)

    async def _has(self, layer: Layer) -> bool:
        url = self._repository.url("blobs", layer.digest)
        async with self._client.request("HEAD", url) as response:
            if response.status_code not in (200, 404):
                raise await refusal(response, "")
            return response.status_code == 200

    async def _begin(self, layer: Layer) -> _Upload | None:
        """A new upload; None where the registry found that it has the blob."""
        url = self._repository.url("blobs", "uploads", "")
        async with self._client.request("POST", f"{url}?{urlencode({'digest': layer.digest})}") as response:
            await _taken(response)
            if response.status_code == 201:
                return None
            return _Upload(self._next(response, url))

    async def _send(self, layer: Layer, upload: _Upload, transfer: Transfer) -> None:
        """All bytes by PATCH, then the digest by PUT."""

        async def patch() -> None:
            if upload.offset != transfer.completed:  # the try before was cut
                await self._ask(upload)
            size = min(self._client.options.part_max, layer.size - upload.offset)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size),
                "Content-Range": f"{upload.offset}-{upload.offset + size - 1}",
            }
            part = self._part(layer, upload.offset, size, transfer)
            async with self._client.request("PATCH", upload.url, headers, part) as response:
                await _taken(response)
                upload.url = self._next(response, upload.url)
            upload.offset += size
            transfer.completed = upload.offset

        while upload.offset < layer.size:
            await self._client.retried(patch, lambda: upload.offset)

        async def finish() -> None:
            mark = "&" if urlsplit(upload.url).query else "?"
            url = f"{upload.url}{mark}{urlencode({'digest': layer.digest})}"
            async with self._client.request("PUT", url, {"Content-Length": "0"}) as response:
                await _taken(response)

        await self._client.retried(finish)

    async def _ask(self, upload: _Upload) -> None:
        """Have the registry say how much of the upload it has."""
        async with self._client.request("GET", upload.url) as response:
            await _taken(response)
            match = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
            upload.offset = int(match[1]) + 1 if match else 0
            upload.url = self._next(response, upload.url)

    def _part(
        self, layer: Layer, offset: int, size: int, transfer: Transfer
    ) -> Callable[[], AsyncGenerator[bytes, None]]:
        """The body that sends `size` bytes of the blob from `offset` on."""
        path = self._store.blob(layer)

        async def pieces() -> AsyncGenerator[bytes, None]:
            place, end = offset, offset + size
            with path.open("rb") as file:
                while place < end:
                    data = await asyncio.to_thread(os.pread, file.fileno(), min(_READ, end - place), place)
                    if not data:
                        raise Temporary(f"{path} became shorter")
                    yield data
                    place += len(data)
                    transfer.completed = place

        return pieces

    def _next(self, response: httpx.Response, url: str) -> str:
        """The address that an answer gives for what follows."""
        headers = response.headers
        location = headers.get("Docker-Upload-Location") or headers.get("Location")
        if location is None:
            return url
        target = urljoin(str(response.url), location)
        if urlsplit(target).scheme == "http" and not self._client.options.insecure:
            raise TransferError("the registry wants the upload over plain http; --insecure allows it")
        return target


async def _taken(response: httpx.Response) -> None:
    """Raises unless the registry took what was sent."""
    if response.status_code >= 300:
        raise await refusal(response, f"{response.url.host} does not know {response.url.path}")
