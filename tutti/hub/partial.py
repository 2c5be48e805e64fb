"""A download that is not complete: the file, its parts, and a journal of how far each part is.

    blobs/sha256-<hex>-partial        as long as the blob will be; holes where nothing has come yet
    blobs/sha256-<hex>-partial.json   {"size": 300, "tag": "...", "parts": [[offset, size, completed], ...]}

The journal is written after the data it tells of, so whatever ends the process, what it says is there. A journal that
does not fit the file, or that nobody can read, means to begin anew.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

_PARTS = 16  # a blob is divided into so many, as far as their sizes are sensible
_MOST_PARTS = 1000
_JOURNAL = 0.3  # seconds between two writings of it
_CHUNK = 4 << 20  # bytes hashed at once


@dataclass(slots=True)
class Part:
    """Bytes `offset` to `offset + size` of the file, of which the first `completed` are here."""

    offset: int
    size: int
    completed: int = 0


class _Journal(msgspec.Struct):
    size: int
    tag: str
    parts: list[tuple[int, int, int]]


@dataclass(slots=True)
class Partial:
    """One such download. `tag` names the version of what is downloaded (an ETag); another one begins anew."""

    path: Path
    size: int
    tag: str
    parts: list[Part]
    _descriptor: int = -1
    _saved: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)  # parts are written by several threads

    @property
    def completed(self) -> int:
        """Bytes that are here."""
        return sum(part.completed for part in self.parts)

    def __enter__(self) -> Partial:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._descriptor, self.size)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # a thread whose task was cancelled may still be writing
            with suppress(OSError):  # a disk that is full: the journal as it was is true, too
                self.save()
            os.close(self._descriptor)
            self._descriptor = -1

    def write(self, part: Part, data: bytes) -> None:
        """`data` is what follows in `part`; nothing after the end. Raises OSError, with what fitted kept."""
        rest = memoryview(data)
        with self._lock:
            while rest and self._descriptor >= 0:
                written = os.pwrite(self._descriptor, rest, part.offset + part.completed)
                part.completed += written
                rest = rest[written:]
            if self._descriptor >= 0 and time.monotonic() - self._saved > _JOURNAL:
                self.save()

    def save(self) -> None:
        """Write the journal. The caller sees to it that nobody else does."""
        self._saved = time.monotonic()
        parts = [(part.offset, part.size, part.completed) for part in self.parts]
        temporary = _journal(self.path).with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(_Journal(self.size, self.tag, parts)))
        os.replace(temporary, _journal(self.path))

    def restart(self, parts: list[Part]) -> None:
        """Forget what has come; the file is divided like this from now on."""
        self.parts = parts
        self.save()

    def digest(self) -> str:
        """The digest of the whole file, which takes a second a gigabyte."""
        sha = hashlib.sha256()
        with self.path.open("rb") as file:
            while data := file.read(_CHUNK):
                sha.update(data)
        return f"sha256:{sha.hexdigest()}"


def open_partial(path: Path, size: int, least: int, most: int, tag: str = "") -> Partial:
    """The download at `path`, gone on with where there is one; parts have `least` to `most` bytes."""
    journal = _read(path)
    usable = journal is not None and journal.size == size and journal.tag == tag and path.exists()
    if journal is not None and usable and _covers(journal) and path.stat().st_size == size:
        return Partial(path, size, tag, [Part(*part) for part in journal.parts])
    path.unlink(missing_ok=True)
    return Partial(path, size, tag, divide(size, least, most))


def completed_of(path: Path) -> int:
    """How many bytes of the download at `path` are here, by its journal."""
    journal = _read(path)
    return 0 if journal is None else sum(part[2] for part in journal.parts)


def remove_partial(path: Path) -> None:
    """Forget the download."""
    for file in (_journal(path), _journal(path).with_suffix(".tmp"), path):
        file.unlink(missing_ok=True)


def divide(size: int, least: int, most: int) -> list[Part]:
    """Parts of `least` to `most` bytes that make `size` together; the last may be shorter.

    There are never more than `_MOST_PARTS`, whatever size a stranger claims.
    """
    step = max(1, least, min(most, -(-size // _PARTS)), -(-size // _MOST_PARTS))
    return [Part(offset, min(step, size - offset)) for offset in range(0, size, step)]


def _covers(journal: _Journal) -> bool:
    """Whether the parts follow each other to the end, each within its bounds."""
    place = 0
    for offset, size, completed in journal.parts:
        if offset != place or size <= 0 or not 0 <= completed <= size:
            return False
        place += size
    return place == journal.size


def _read(path: Path) -> _Journal | None:
    try:
        return msgspec.json.decode(_journal(path).read_bytes(), type=_Journal)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
