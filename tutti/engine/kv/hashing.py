"""Chained block hashes: the name of a block's content.

A block's hash covers its own tokens and, through its parent's hash, everything before it, so equal hashes mean equal
prefixes. What else decides the content of the KV enters too: an adapter or a salt as extra keys of the whole chain, the
digest of a picture as a mark on the blocks where it stands. One chain serves every kind of group, offloading and
cache-aware routing. A request's hashes grow with it and are never computed twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

_ROOT = b"tutti-kv"


class Mark(NamedTuple):
    """Tokens `start` to `stop` are placeholders of the medium `digest`, from its row `row` on."""

    start: int
    stop: int
    digest: str
    row: int


def root_hash(extra_keys: Sequence[str] = ()) -> bytes:
    """The parent of the first block: what decides the KV besides the tokens."""
    digest = blake2b(_ROOT, digest_size=16)
    for key in extra_keys:
        digest.update(len(key).to_bytes(4, "little") + key.encode())
    return digest.digest()


class HashChain:
    """The hashes of one request's full blocks, extended as tokens arrive."""

    __slots__ = ("block_size", "hashes", "_parent", "_marks")

    def __init__(self, block_size: int, extra_keys: Sequence[str] = (), marks: Sequence[Mark] = ()) -> None:
        """`marks` in the order of their tokens."""
        self.block_size = block_size
        self.hashes: list[bytes] = []
        self._parent = root_hash(extra_keys)
        self._marks = list(marks)

    def extend(self, tokens: Sequence[int]) -> list[bytes]:
        """The hashes of all full blocks of `tokens`, which must continue what was given before."""
        size = self.block_size
        for start in range(len(self.hashes) * size, len(tokens) - size + 1, size):
            block = array("q", tokens[start : start + size]).tobytes()
            if self._marks:
                block += self._marked(start)
            self._parent = blake2b(block, digest_size=16, key=self._parent).digest()
            self.hashes.append(self._parent)
        return self.hashes

    def _marked(self, start: int) -> bytes:
        """What the media in the block that begins at token `start` add to its content."""
        end = start + self.block_size
        while self._marks and self._marks[0].stop <= start:
            self._marks.pop(0)
        found = b""
        for mark in self._marks:
            if mark.start >= end:
                break
            first = max(mark.start, start)
            key = root_hash((mark.digest,))
            found += (
                key
                + (first - start).to_bytes(8, "little")
                + (mark.row + first - mark.start).to_bytes(8, "little")
            )
        return found
