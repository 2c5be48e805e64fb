"""The books of one pool of blocks: who is free, who is shared, what can be found again.

A block is *held* while its count is above zero and *free* otherwise. A free block keeps its content, and its hash
finds it, until it is given away: the free list is the LRU of the prefix cache. Every operation is O(1).

    free list:  [ content-less ... | least recently used ... most recently used ]
                  ^ given away first                         ^ given away last

Block 0 is the null block: never given away, it stands in block tables where nothing is held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

NULL_BLOCK = 0


class BlockPool:
    """Blocks 1..count-1 of one KV group."""

    def __init__(self, count: int) -> None:
        if count < 2:
            raise ValueError(f"a pool needs the null block and at least one more, got {count}")
        self.count = count
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, count))
        self._holders = [0] * count
        self._hash_of: list[bytes | None] = [None] * count
        self._by_hash: dict[bytes, int] = {}

    @property
    def usable(self) -> int:
        """Blocks that requests can hold in all."""
        return self.count - 1

    @property
    def available(self) -> int:
        """Blocks that can be taken now (cached ones included: they would lose their content)."""
        return len(self._free)

    def find(self, block_hash: bytes) -> int | None:
        """The block with this content, held or free, or None."""
        return self._by_hash.get(block_hash)

    def is_free(self, block: int) -> bool:
        """Whether nobody holds `block`."""
        return block in self._free

    def take(self) -> int:
        """A block for new content; the least recently used cached one loses its content if it must.

        Raises KeyError when none is available: callers ask `available` first.
        """
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        self._holders[block] = 1
        return block

    def hold(self, block: int) -> None:
        """One more holder of a block that was found by its hash."""
        self._free.pop(block, None)
        self._holders[block] += 1

    def publish(self, block: int, block_hash: bytes) -> None:
        """Let the content of a held block be found. The first block with a given content stays the one found."""
        if block_hash not in self._by_hash:
            self._forget(block)
            self._by_hash[block_hash] = block
            self._hash_of[block] = block_hash

    def drop(self, blocks: Iterable[int]) -> None:
        """One holder less for each of `blocks`; give a request's last block first, so that prefixes live longest."""
        for block in blocks:
            if block == NULL_BLOCK:
                continue
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free[block] = None
                if self._hash_of[block] is None:
                    self._free.move_to_end(block, last=False)

    def forget_all(self) -> None:
        """Empty the prefix cache. What is held stays held, but is no longer found."""
        self._by_hash.clear()
        self._hash_of = [None] * self.count

    def check(self) -> None:
        """Raise AssertionError unless the books balance."""
        held = sum(1 for count in self._holders if count > 0)
        assert all(count >= 0 for count in self._holders), "a block was dropped more often than held"
        assert held + len(self._free) == self.usable, f"{held} held + {len(self._free)} free != {self.usable}"
        assert self._holders[NULL_BLOCK] == 0 and NULL_BLOCK not in self._free, (
            "the null block was given away"
        )
        assert all(self._holders[block] == 0 for block in self._free), "a free block is held"
        assert {self._hash_of[block]: block for block in self._by_hash.values()} == self._by_hash, (
            "hashes disagree"
        )

    def _forget(self, block: int) -> None:
        block_hash = self._hash_of[block]
        if block_hash is not None:
            del self._by_hash[block_hash]
            self._hash_of[block] = None
