"""Chained block hashes: the name of a block's content.

A block's hash covers its own tokens and, through its parent's hash, everything before it, so equal hashes mean equal
prefixes. What else decides the content of the KV (an adapter, a salt, the digest of a picture) enters as extra keys.
One chain serves every kind of group, offloading and cache-aware routing. A request's hashes grow with it and are never
computed twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

_ROOT = b"tutti-kv"


def root_hash(extra_keys: Sequence[str] = ()) -> bytes:
    """The parent of the first block: what decides the KV besides the tokens."""
    digest = blake2b(_ROOT, digest_size=16)
    for key in extra_keys:
        digest.update(len(key).to_bytes(4, "little") + key.encode())
    return digest.digest()


class HashChain:
    """The hashes of one request's full blocks, extended as tokens arrive."""

    __slots__ = ("block_size", "hashes", "_parent")

    def __init__(self, block_size: int, extra_keys: Sequence[str] = ()) -> None:
        self.block_size = block_size
        self.hashes: list[bytes] = []
        self._parent = root_hash(extra_keys)

    def extend(self, tokens: Sequence[int]) -> list[bytes]:
        """The hashes of all full blocks of `tokens`, which must continue what was given before."""
        size = self.block_size
        for start in range(len(self.hashes) * size, len(tokens) - size + 1, size):
            block = array("q", tokens[start : start + size]).tobytes()
            self._parent = blake2b(block, digest_size=16, key=self._parent).digest()
            self.hashes.append(self._parent)
        return self.hashes
