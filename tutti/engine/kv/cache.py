"""The KV cache of one autoregressive stage: what each request holds in every group.

    lookup   how long a prefix is cached already
    admit    hold that prefix
    grow     hold blocks for the tokens of the next step, or say no and change nothing
    commit   after the step: publish full blocks, let go what left the window
    release  give everything back

The tensors belong to `KVCache` too; only kernels read and write them.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch

from tutti.engine.kv.blocks import NULL_BLOCK, BlockPool
from tutti.engine.kv.groups import Group, Table, make_group
from tutti.engine.kv.hashing import HashChain, Mark
from tutti.graph import KVGroup
from tutti.kernels.paged import LayerCache


@dataclass(slots=True)
class Held:
    """What one request holds: a table per group, and the hashes of its full blocks."""

    tables: list[Table]
    chain: HashChain
    published: int = 0  # blocks whose content may be found by others
    dropped: list[int] = field(default_factory=list)  # per group: leading blocks given back already
    pending: int = 0  # hashes of blocks this request is going to compute are announced up to here


@dataclass(slots=True)
class CacheStats:
    """Counts since the start, in tokens."""

    queries: int = 0
    hits: int = 0


class BlockBooks:
    """Allocation for all groups of a model, without the tensors (so that it can be tested without any)."""

    def __init__(
        self, specs: Sequence[KVGroup], counts: Sequence[int], block_size: int, prefix_caching: bool = True
    ) -> None:
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.groups: list[Group] = [
            make_group(spec, BlockPool(count), block_size) for spec, count in zip(specs, counts, strict=True)
        ]
        self.stats = CacheStats()
        self._announced: dict[bytes, int] = {}  # content being computed by somebody -> how many

    def chain(self, extra_keys: Sequence[str], marks: Sequence[Mark] = ()) -> HashChain:
        """An empty chain for a request whose KV also depends on `extra_keys`, and in places on media."""
        return HashChain(self.block_size, extra_keys, marks)

    def lookup(self, chain: HashChain, tokens: Sequence[int]) -> int:
        """Blocks of the longest cached prefix that leaves at least one token to compute."""
        if not self.prefix_caching:
            return 0
        hashes = chain.extend(tokens)
        blocks = (len(tokens) - 1) // self.block_size
        while True:
            shortest = blocks
            for group in self.groups:
                shortest = group.hit(hashes, shortest)
            if shortest == blocks:
                return blocks
            blocks = shortest

    def awaits(self, chain: HashChain, tokens: Sequence[int], hit: int) -> bool:
        """Whether the block after a hit of `hit` blocks is just being computed for another request."""
        if not self.prefix_caching or hit >= (len(tokens) - 1) // self.block_size:
            return False
        return chain.hashes[hit] in self._announced

    def admit(self, chain: HashChain, tokens: Sequence[int], hit: int) -> Held:
        """Hold a cached prefix of `hit` blocks and announce what will be computed beyond it."""
        tables = [group.claim(chain.hashes, hit) for group in self.groups]
        firsts = [group.first_needed(hit * self.block_size) for group in self.groups]
        held = Held(tables, chain, hit, firsts, hit)
        self.stats.queries += len(tokens)
        self.stats.hits += hit * self.block_size
        if self.prefix_caching:
            for block_hash in chain.hashes[hit:]:
                self._announced[block_hash] = self._announced.get(block_hash, 0) + 1
            held.pending = len(chain.hashes)
        return held

    def fits(self, tokens: int, hit: int, chain: HashChain, chunk: int, spare: int = 0) -> bool:
        """Whether a request of `tokens` tokens, computed `chunk` at a time after a hit of `hit` blocks, fits now.

        `spare` blocks per group must be left over for those that run already.
        """
        blocks = -(-tokens // self.block_size)
        for group in self.groups:
            first = group.first_needed(hit * self.block_size)
            revived = sum(
                1
                for h in chain.hashes[first:hit]
                if (b := group.pool.find(h)) is not None and group.pool.is_free(b)
            )
            needed = min(blocks - hit, group.blocks_for(tokens, chunk))
            if group.pool.available - revived < needed + spare:
                return False
        return True

    def grow(self, held: Held, tokens: int) -> bool:
        """Hold blocks for `tokens` tokens in all; False, and nothing changed, when there are not enough."""
        blocks = -(-tokens // self.block_size)
        for group, table in zip(self.groups, held.tables, strict=True):
            if blocks - len(table) > group.pool.available:
                return False
        for group, table in zip(self.groups, held.tables, strict=True):
            while len(table) < blocks:
                table.append(group.pool.take())
        return True

    def commit(self, held: Held, tokens: Sequence[int], computed: int) -> None:
        """After a step: the first `computed` of `tokens` have their KV in the cache."""
        full = computed // self.block_size
        if self.prefix_caching and full > held.published:
            hashes = held.chain.extend(tokens)
            for group, table in zip(self.groups, held.tables, strict=True):
                for index in range(held.published, full):
                    if table[index] != NULL_BLOCK:
                        group.pool.publish(table[index], hashes[index])
            self._withdraw(held, full)
            held.published = full
        for number, (group, table) in enumerate(zip(self.groups, held.tables, strict=True)):
            first = group.first_needed(computed)
            if first > held.dropped[number]:
                group.pool.drop(reversed(table[held.dropped[number] : first]))
                table[held.dropped[number] : first] = [NULL_BLOCK] * (first - held.dropped[number])
                held.dropped[number] = first

    def release(self, held: Held) -> None:
        """Give back everything a request holds."""
        self._withdraw(held, held.pending)
        for group, table in zip(self.groups, held.tables, strict=True):
            group.pool.drop(reversed(table))
            table.clear()

    def reset(self) -> None:
        """Empty the prefix cache."""
        for group in self.groups:
            group.pool.forget_all()

    @property
    def usage(self) -> float:
        """The fullest group's share of held blocks, 0 to 1."""
        return max((1 - group.pool.available / group.pool.usable for group in self.groups), default=0.0)

    def check(self) -> None:
        """Raise AssertionError unless the books of all pools balance."""
        for group in self.groups:
            group.pool.check()

    def _withdraw(self, held: Held, stop: int) -> None:
        """The blocks up to `stop` are computed, or never will be: nobody needs to wait for them."""
        for block_hash in held.chain.hashes[held.published : min(stop, held.pending)]:
            left = self._announced.get(block_hash, 0) - 1
            if left > 0:
                self._announced[block_hash] = left
            else:
                self._announced.pop(block_hash, None)


class KVCache(BlockBooks):
    """The books together with the tensors they are about."""

    def __init__(
        self,
        specs: Sequence[KVGroup],
        counts: Sequence[int],
        block_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        prefix_caching: bool = True,
    ) -> None:
        super().__init__(specs, counts, block_size, prefix_caching)
        layers: dict[int, LayerCache] = {}
        for spec, count in zip(specs, counts, strict=True):
            for layer in spec.layers:
                shape = (count, spec.kv_heads, block_size)
                key = _zeros((*shape, spec.key_dim), dtype, device)
                own_value = None if spec.shared_value else _zeros((*shape, spec.value_dim), dtype, device)
                layers[layer] = LayerCache(
                    key, key[..., : spec.value_dim] if own_value is None else own_value
                )
        self.layers = [layers[index] for index in sorted(layers)]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A zeroed tensor (garbage could be NaN, and NaN survives a mask).

    On the CPU it is the system's zero pages, each of which takes memory when it is first written: the pool grows into
    its budget.
    """
    size = prod(shape) * dtype.itemsize
    if device.type != "cpu" or not size:
        return torch.zeros(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
