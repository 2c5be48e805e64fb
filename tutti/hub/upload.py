"""A blob that a client sends: written as it comes, checked against the digest that it is called by.

Until it is complete and right it is a temporary file, so that whoever leaves, lies or is cut off leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterable

from tutti.errors import InvalidRequest
from tutti.hub.manifest import check_digest
from tutti.hub.store import Store, writing

_WRITE = 1 << 20  # bytes that are written and hashed at once


def has_blob(store: Store, digest: str) -> bool:
    """Whether the blob is here. One that no model names yet may then stay as long as if it had just come.

    Raises StoreError on what is no digest.
    """
    found = store.find_digest(digest) is not None
    own = store.blob_path(digest)
    if found and own.is_file():
        with writing(store.root):
            os.utime(own)
    return found


async def receive(store: Store, digest: str, chunks: AsyncIterable[bytes], size: int = 0) -> None:
    """Have what `chunks` bring as the blob `digest`; they have `size` bytes together, if that is known.

    Raises InvalidRequest where they are something else, StoreError, and what `chunks` raise.
    """
    digest = check_digest(digest)
    store.check_space(size)
    sha, buffer = hashlib.sha256(), bytearray()
    with store.temporary() as (file, path):

        def write(data: bytes) -> None:
            sha.update(data)
            file.write(data)

        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= _WRITE:
                await asyncio.to_thread(write, bytes(buffer))
                buffer.clear()
        write(bytes(buffer))
        file.flush()
        found = f"sha256:{sha.hexdigest()}"
        if found != digest:
            raise InvalidRequest(f'digest mismatch, expected "{digest}", got "{found}"', param="digest")
        await asyncio.to_thread(store.settle, path, digest)
