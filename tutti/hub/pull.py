"""Pulling: a model from a registry, or a GGUF file from a web address or this disk, into the store.

What goes on comes as `Progress`, with the statuses of Ollama's API. Ending the generator early (or the process, in
whatever way) keeps what has come: the next pull goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tutti.errors import ModelNotFound, TransferError
from tutti.hub.credentials import is_hub
from tutti.hub.download import Downloader, Transfer, together
from tutti.hub.locks import Lease, held
from tutti.hub.manifest import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    MAX_MANIFEST,
    Layer,
    Manifest,
    read_manifest,
    write_manifest,
)
from tutti.hub.names import ModelName, parse_name
from tutti.hub.partial import completed_of, remove_partial
from tutti.hub.progress import Progress
from tutti.hub.registry import Client, Options, Repository, check_secure, connected, read_body, refusal
from tutti.hub.shards import find_shards
from tutti.hub.store import Store
from tutti.settings import read_settings

_TICK = 0.06  # seconds between two looks at how far the blobs are
_SHARDED = {
    "model_format": "gguf",
    "architecture": "amd64",
    "os": "linux",
}  # a config; the file says the rest
AT_ONCE = 4  # blobs that are on their way


async def pull(
    store: Store, name: str | ModelName, options: Options | None = None
) -> AsyncGenerator[Progress, None]:
    """Pull the model `name` from its registry.

    Raises InvalidModelName, InvalidRequest (http that was not allowed), ModelNotFound, Unauthorized, TransferError,
    StoreError.
    """
    name = parse_name(name)
    yield Progress("pulling manifest")
    async with connected(name, options or Options()) as repository:
        lease = store.lease()
        try:
            manifest, places = await _sought(repository, store, lease)
            transfers = [Transfer(layer) for layer in manifest.blobs() if layer.digest in places]
            store.keep(lease, *places)
            downloader = Downloader(repository.client, store)
            downloads = (downloader.blob(places[one.layer.digest], one) for one in transfers)
            async with aclosing(followed(together(downloads, AT_ONCE), transfers, "pulling")) as told:
                async for progress in told:
                    yield progress
            yield Progress("writing manifest")
            await asyncio.to_thread(store.write, name, manifest)
        finally:
            lease.release()
    yield Progress("success")


async def fetch_file(
    store: Store, url: str, lease: Lease, options: Options | None = None
) -> AsyncGenerator[Progress | Layer, None]:
    """Have the file at `url` as a blob that `lease` keeps: progress, and at the end its layer (of no media type yet).

    Raises as `pull` does.
    """
    options = options or Options()
    check_secure(urlsplit(url).scheme, options)
    partial = store.root / "blobs" / f"url-{hashlib.sha256(url.encode()).hexdigest()}-partial"
    async with Client(options) as client:
        size, tag = await _head(client, url)
        shown = Layer("", f"sha256:{hashlib.sha256(url.encode()).hexdigest()}", size)
        transfer = Transfer(shown, completed_of(partial))
        found: list[Layer] = []

        async def work() -> None:
            async with held(store.locks / partial.name, lambda: None):
                digest = await Downloader(client, store).file(url, partial, transfer, tag)
                store.keep(lease, digest)
                await asyncio.to_thread(store.settle, partial, digest)
                remove_partial(partial)
                found.append(Layer("", digest, size))

        async with aclosing(followed(work(), [transfer], "pulling")) as told:
            async for progress in told:
                yield progress
    yield found[0]


async def followed(
    work: Coroutine[Any, Any, None], transfers: Sequence[Transfer], verb: str
) -> AsyncGenerator[Progress, None]:
    """What `transfers` have to tell while `work` goes on: `verb` is what it does to them ("pulling").

    Raises what `work` raises; ends it when closed.
    """
    task = asyncio.ensure_future(work)
    shown: dict[str, int] = {}
    try:
        verifying = verb != "pulling"
        while True:
            await asyncio.wait((task,), timeout=_TICK)
            ended = task.done()
            for transfer in transfers:
                layer = transfer.layer
                if transfer.completed != shown.get(layer.digest, 0) or (ended and layer.digest not in shown):
                    shown[layer.digest] = transfer.completed
                    yield Progress(f"{verb} {layer.short}", layer.digest, layer.size, transfer.completed)
            if not verifying and all(transfer.arrived for transfer in transfers):
                verifying = True
                yield Progress("verifying sha256 digest")
            if ended:
                task.result()
                return
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _sought(repository: Repository, store: Store, lease: Lease) -> tuple[Manifest, Mapping[str, str]]:
    """The manifest of the model, and the addresses of its blobs by their digests."""
    url = repository.url("manifests", repository.name.tag)

    async def get() -> bytes | None:
        async with repository.client.request("GET", url, {"Accept": MANIFEST_TYPE}) as response:
            if response.status_code == 400 and is_hub(read_settings(), repository.url()):
                return None  # what is in several files has no manifest there
            if response.status_code != 200:
                raise await refusal(response, "pull model manifest: file does not exist")
            return await read_body(response, MAX_MANIFEST)

    raw = await repository.client.retried(get)
    if raw is not None:
        manifest = read_manifest(raw)
        return manifest, {one.digest: repository.url("blobs", one.digest) for one in manifest.blobs()}
    shards = await repository.client.retried(lambda: find_shards(repository))
    layers = [layer for layer, _ in shards]
    config = {
        **_SHARDED,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    described = await asyncio.to_thread(store.put, msgspec.json.encode(config), CONFIG_TYPE, lease)
    return write_manifest(described, layers), {layer.digest: place for layer, place in shards}


async def _head(client: Client, url: str) -> tuple[int, str]:
    """The size of the file at `url`, and what names its version."""

    async def ask() -> tuple[int, str]:
        # Not HEAD: signed addresses answer to one method only. The body is not read.
        async with client.request("GET", url, {"Range": "bytes=0-0"}) as response:
            if response.status_code == 404:
                raise ModelNotFound(f"there is no file at {url}")
            if response.status_code not in (200, 206):
                raise await refusal(response, "")
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            length = total if response.status_code == 206 else response.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) == 0:
                raise TransferError(f"{urlsplit(url).netloc} does not say how large the file is")
            tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            return int(length), tag

    return await client.retried(ask)
