"""Pulling: a model from a registry, or a GGUF file from a web address or this disk, into the store.

What goes on comes as `Progress`, with the statuses of Ollama's API. Ending the generator early (or the process, in
whatever way) keeps what has come: the next pull goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from urllib.parse import urlsplit

from tutti.errors import InvalidRequest, ModelNotFound, TransferError
from tutti.hub.download import Downloader, Transfer, together
from tutti.hub.locks import Lease, held
from tutti.hub.manifest import MANIFEST_TYPE, MAX_MANIFEST, Layer, Manifest, read_manifest
from tutti.hub.names import ModelName, parse_name
from tutti.hub.partial import completed_of, remove_partial
from tutti.hub.progress import Progress
from tutti.hub.registry import Client, Options, read_body, refusal, registry_url
from tutti.hub.store import Store

_TICK = 0.06  # seconds between two looks at how far the blobs are
_BLOBS = 4  # at once


async def pull(
    store: Store, name: str | ModelName, options: Options | None = None
) -> AsyncGenerator[Progress, None]:
    """Pull the model `name` from its registry.

    Raises InvalidModelName, InvalidRequest (http that was not allowed), ModelNotFound, Unauthorized, TransferError,
    StoreError.
    """
    name = parse_name(name) if isinstance(name, str) else name
    options = options or Options()
    yield Progress("pulling manifest")
    registry_url(name, options)  # refuses what is not allowed before anything is locked
    lease = store.lease()
    try:
        async with Client(options) as client:
            manifest = await _manifest(client, name)
            transfers = [Transfer(layer) for layer in manifest.blobs()]
            store.keep(lease, *(transfer.layer.digest for transfer in transfers))
            downloads = _download(Downloader(client, store), name, transfers, options)
            async for progress in followed(downloads, transfers):
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
    if urlsplit(url).scheme != "https" and not options.insecure:
        raise InvalidRequest("insecure protocol http; --insecure allows it")
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
                transfer.done = True

        async for progress in followed(asyncio.ensure_future(work()), [transfer]):
            yield progress
    yield found[0]


async def followed(
    work: asyncio.Future[None], transfers: Sequence[Transfer]
) -> AsyncGenerator[Progress, None]:
    """What `transfers` have to tell while `work` goes on. Raises what `work` raises; ends it when closed."""
    shown: dict[str, int] = {}
    try:
        verifying = False
        while True:
            await asyncio.wait((work,), timeout=_TICK)
            ended = work.done()
            for transfer in transfers:
                layer = transfer.layer
                if transfer.completed != shown.get(layer.digest, 0) or (ended and layer.digest not in shown):
                    shown[layer.digest] = transfer.completed
                    yield Progress(f"pulling {layer.short}", layer.digest, layer.size, transfer.completed)
            if not verifying and all(transfer.arrived for transfer in transfers):
                verifying = True
                yield Progress("verifying sha256 digest")
            if ended:
                work.result()
                return
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))


def _download(
    downloader: Downloader, name: ModelName, transfers: Sequence[Transfer], options: Options
) -> asyncio.Future[None]:
    """All blobs of a model, some at once, in their order."""
    turns = asyncio.Semaphore(_BLOBS)

    async def one(transfer: Transfer) -> None:
        async with turns:
            url = registry_url(name, options, "blobs", transfer.layer.digest)
            await downloader.blob(url, transfer)

    return asyncio.ensure_future(together(one(transfer) for transfer in transfers))


async def _manifest(client: Client, name: ModelName) -> Manifest:
    url = registry_url(name, client.options, "manifests", name.tag)

    async def get() -> bytes:
        async with client.request("GET", url, {"Accept": MANIFEST_TYPE}) as response:
            if response.status_code != 200:
                raise await refusal(response, "pull model manifest: file does not exist")
            return await read_body(response, MAX_MANIFEST)

    return read_manifest(await client.retried(get))


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
