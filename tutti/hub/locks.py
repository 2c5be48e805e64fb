"""Locks between processes on one store: files under `.locks`, held by `flock`, so that none outlives its process.

Three uses. `exclusive` on `store`: a moment in which manifests are written, blobs collected, leases taken. `Lease`: the
digests that a pull or a creation needs, for as long as no manifest names them yet; the collection spares them.
`exclusive` on a digest: who downloads that blob; others wait, and find it there.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tutti.errors import StoreError

_POLL = 0.05  # seconds between tries of a lock that somebody holds


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"{path.parent.parent} cannot be written ({error.strerror}); TUTTI_MODELS names another folder"
        ) from error


def _still_there(path: Path, descriptor: int) -> bool:
    """Whether the file that we locked is the one that others will find at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _try(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock at `path`; None where somebody else holds it."""
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _still_there(path, descriptor):
            return descriptor
        os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; for moments only, for it blocks the thread until it is free."""
    descriptor = _try(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def held(path: Path, waiting: Callable[[], None]) -> AsyncGenerator[None, None]:
    """Hold the lock at `path`, however long others need it; `waiting` is called while they do.

    The file goes with the lock: there is one for each blob, and they would add up.
    """
    while (descriptor := _try(path, wait=False)) is None:
        waiting()
        await asyncio.sleep(_POLL)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


class Lease:
    """Digests that must stay though no manifest names them. Ends with `release`, or with the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"lease-{uuid.uuid4().hex}"
        self._descriptor = _open(self._path)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def add(self, digests: Iterable[str]) -> None:
        """Keep these, too. The caller holds the store's lock."""
        os.write(self._descriptor, "".join(f"{digest}\n" for digest in digests).encode())

    def release(self) -> None:
        """Keep nothing any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def leased(folder: Path) -> set[str]:
    """The digests of all leases in force; leases of dead processes go. The caller holds the store's lock."""
    found: set[str] = set()
    for path in folder.glob("lease-*"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.update(path.read_text().split())
        else:
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return found
