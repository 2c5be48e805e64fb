"""Groups of layers whose cache pages alike, behind one small interface.

A full group keeps a block for every `block_size` tokens of a request. A window group keeps only the blocks that the
window can still see; earlier entries of its table become the null block. A further kind (recurrent state) is one more
class here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tutti.engine.kv.blocks import NULL_BLOCK, BlockPool
from tutti.graph import KVGroup

Table = list[int]  # logical block -> block


class Group(Protocol):
    """What the cache asks of a group, whatever its kind."""

    spec: KVGroup
    pool: BlockPool

    def hit(self, hashes: Sequence[bytes], limit: int) -> int:
        """The longest prefix, in blocks and at most `limit`, whose content this group still has."""
        ...

    def claim(self, hashes: Sequence[bytes], blocks: int) -> Table:
        """Hold the cached blocks of a prefix of `blocks` blocks; returns the table they make."""
        ...

    def first_needed(self, tokens: int) -> int:
        """The first logical block that a query at position `tokens` or later can still see."""
        ...

    def blocks_for(self, tokens: int, chunk: int) -> int:
        """The most blocks one request of `tokens` tokens holds when it is computed `chunk` tokens at a time."""
        ...


class FullGroup:
    """Every token stays."""

    def __init__(self, spec: KVGroup, pool: BlockPool, block_size: int) -> None:
        self.spec = spec
        self.pool = pool
        self.block_size = block_size

    def hit(self, hashes: Sequence[bytes], limit: int) -> int:
        """See `Group.hit`."""
        for index in range(limit):
            if self.pool.find(hashes[index]) is None:
                return index
        return limit

    def claim(self, hashes: Sequence[bytes], blocks: int) -> Table:
        """See `Group.claim`."""
        return _claim(self.pool, hashes, 0, blocks)

    def first_needed(self, tokens: int) -> int:
        """See `Group.first_needed`."""
        return 0

    def blocks_for(self, tokens: int, chunk: int) -> int:
        """See `Group.blocks_for`."""
        return -(-tokens // self.block_size)


class WindowGroup:
    """The last `window` tokens stay.

    For a prefix of `n` tokens to be a hit, only the blocks that a query at position n sees must be there:

        block      | 0 | 1 | 2 | 3 | 4 |         window = 1.5 blocks, n = 4 blocks
        needed               ^^^^^^^             (n - window, n): blocks 2 and 3
    """

    def __init__(self, spec: KVGroup, pool: BlockPool, block_size: int) -> None:
        if spec.window is None:
            raise ValueError("a window group needs a window")
        self.spec = spec
        self.pool = pool
        self.block_size = block_size
        self.window = spec.window

    def hit(self, hashes: Sequence[bytes], limit: int) -> int:
        """See `Group.hit`. A missing block rules out every prefix whose window covers it."""
        while limit > 0:
            first = self.first_needed(limit * self.block_size)
            missing = next(
                (i for i in range(limit - 1, first - 1, -1) if self.pool.find(hashes[i]) is None), None
            )
            if missing is None:
                return limit
            limit = missing
        return 0

    def claim(self, hashes: Sequence[bytes], blocks: int) -> Table:
        """See `Group.claim`."""
        return _claim(self.pool, hashes, self.first_needed(blocks * self.block_size), blocks)

    def first_needed(self, tokens: int) -> int:
        """See `Group.first_needed`. The query at position `tokens` sees positions above tokens - window."""
        return max(0, tokens - self.window + 1) // self.block_size

    def blocks_for(self, tokens: int, chunk: int) -> int:
        """See `Group.blocks_for`. A window and a chunk may both begin in the middle of a block."""
        return min(-(-tokens // self.block_size), -(-(self.window + chunk) // self.block_size) + 1)


def make_group(spec: KVGroup, pool: BlockPool, block_size: int) -> Group:
    """The group of `spec`'s kind."""
    kinds: dict[str, Callable[[KVGroup, BlockPool, int], Group]] = {"full": FullGroup, "window": WindowGroup}
    if spec.kind not in kinds:
        raise ValueError(f"no KV group of kind {spec.kind!r}; there are {', '.join(kinds)}")
    return kinds[spec.kind](spec, pool, block_size)


def _claim(pool: BlockPool, hashes: Sequence[bytes], first: int, stop: int) -> Table:
    table = [NULL_BLOCK] * first
    for block_hash in hashes[first:stop]:
        block = pool.find(block_hash)
        if block is None:
            raise KeyError("claimed a block that is not cached")
        pool.hold(block)
        table.append(block)
    return table
