"""GGUF files by their looks: telling one from a directory, and the names of a model's files where it has several.

    NAME-00001-of-00003.gguf  NAME-00002-of-00003.gguf  NAME-00003-of-00003.gguf

The first has the metadata, all of them have tensors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"GGUF"
MOST = 512  # shards of a model
_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file that begins as GGUF does, whatever its name is."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Shard:
    """Of what a file's name says it is: `number` from 1 to `count`."""

    stem: str
    number: int
    count: int

    @property
    def names(self) -> list[str]:
        """The names of all shards of the model, in order."""
        return shard_names(self.stem, self.count)


def shard_of(name: str) -> Shard | None:
    """What the name of a file says; None where it is that of a whole model."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    found = Shard(match["stem"], int(match["number"]), int(match["count"]))
    return found if 1 <= found.number <= found.count <= MOST else None


def shard_names(stem: str, count: int) -> list[str]:
    """The names of the files of a model in `count` shards."""
    return [f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def projector_beside(path: Path) -> Path | None:
    """The file that sees for the model at `path`, NAME.mmproj.gguf beside NAME.gguf; None where there is none."""
    shard = shard_of(path.name)
    stem = path.name.removesuffix(".gguf") if shard is None else shard.stem
    found = path.with_name(projector_name(stem))
    return found if found != path and is_gguf(found) else None


def projector_name(stem: str) -> str:
    """What the file that sees for the model NAME.gguf is called; `stem` is NAME."""
    return f"{stem}.mmproj.gguf"
