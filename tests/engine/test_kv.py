"""The KV cache's books: hits, sharing, windows, eviction; and that they balance after anything."""

from __future__ import annotations

import psutil
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tutti.engine.kv.blocks import BlockPool
from tutti.engine.kv.cache import BlockBooks, KVCache
from tutti.engine.kv.hashing import HashChain
from tutti.engine.scheduler import Scheduler
from tutti.engine.sequence import Sequence, State
from tutti.graph import KVGroup
from tutti.request import Request, SamplingParams

FULL = KVGroup("full", (0,), kv_heads=1, key_dim=4, value_dim=4)
WINDOW = KVGroup("window", (1,), kv_heads=1, key_dim=4, value_dim=4, window=10)


def make_sequence(
    books: BlockBooks, tokens: list[int], order: int = 0, priority: int = 0, limit: int = 64
) -> Sequence:
    request = Request(id=f"r{order}", parts=(), priority=priority)
    return Sequence(request, SamplingParams(), list(tokens), len(tokens), limit, books.chain([]), order)


def run_step(scheduler: Scheduler, output: int = 7) -> list[Sequence]:
    """One step as the stage would do it, without a model; returns who finished."""
    finished = []
    for item in scheduler.plan():
        samples = item.samples
        scheduler.advance(item)
        if samples:
            item.sequence.tokens.append(output)
            if len(item.sequence.tokens) >= item.sequence.limit:
                scheduler.finish(item.sequence)
                finished.append(item.sequence)
    return finished


# --- hashes -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 40), st.integers(1, 8))
def test_a_chain_extended_in_pieces_equals_the_chain_of_the_whole(
    tokens: list[int], cut: int, size: int
) -> None:
    pieces, whole = HashChain(size), HashChain(size)
    pieces.extend(tokens[:cut])
    assert pieces.extend(tokens) == whole.extend(tokens)
    assert len(whole.hashes) == len(tokens) // size


def test_extra_keys_and_earlier_tokens_change_every_hash() -> None:
    tokens = list(range(8))
    plain = HashChain(4).extend(tokens)
    assert not set(plain) & set(HashChain(4, ["salt"]).extend(tokens))
    assert not set(plain) & set(HashChain(4).extend([9, *tokens[1:]]))
    assert HashChain(4, ["a", "b"]).extend(tokens) != HashChain(4, ["ab"]).extend(tokens)


# --- the pool ---------------------------------------------------------------------------------------------------


def test_the_least_recently_used_content_is_lost_first() -> None:
    pool = BlockPool(4)
    blocks = [pool.take() for _ in range(3)]
    for block, name in zip(blocks, (b"a", b"b", b"c"), strict=True):
        pool.publish(block, name)
    pool.drop(blocks)  # free, oldest first: a b c
    pool.hold(blocks[0])
    pool.drop([blocks[0]])  # a was used again: b c a
    pool.take()
    assert pool.find(b"b") is None
    assert pool.find(b"a") is not None and pool.find(b"c") is not None
    pool.check()


def test_a_block_without_content_is_given_away_before_a_cached_one() -> None:
    pool = BlockPool(3)
    cached, empty = pool.take(), pool.take()
    pool.publish(cached, b"x")
    pool.drop([cached, empty])
    assert pool.take() == empty
    assert pool.find(b"x") == cached


# --- groups -----------------------------------------------------------------------------------------------------


def test_a_prefix_is_found_again_and_shared() -> None:
    books = BlockBooks([FULL], [20], block_size=4)
    prompt = list(range(13))
    first = make_sequence(books, prompt)
    hit = books.lookup(first.chain, prompt)
    held = books.admit(first.chain, prompt, hit)
    assert hit == 0 and books.grow(held, 13)
    books.commit(held, prompt, 13)
    second = make_sequence(books, prompt)
    hit = books.lookup(second.chain, prompt)
    assert hit == 3
    shared = books.admit(second.chain, prompt, hit)
    assert shared.tables[0] == held.tables[0][:3]
    books.release(held)
    books.release(shared)
    books.check()
    assert books.usage == 0


def test_a_hit_always_leaves_a_token_to_compute() -> None:
    books = BlockBooks([FULL], [20], block_size=4)
    prompt = list(range(8))
    sequence = make_sequence(books, prompt)
    books.lookup(sequence.chain, prompt)
    held = books.admit(sequence.chain, prompt, 0)
    books.grow(held, 8)
    books.commit(held, prompt, 8)
    assert books.lookup(make_sequence(books, prompt).chain, prompt) == 1


def test_a_window_group_gives_back_what_left_the_window_and_hits_on_the_window_alone() -> None:
    books = BlockBooks([FULL, WINDOW], [40, 40], block_size=4)
    prompt = list(range(41))
    sequence = make_sequence(books, prompt)
    books.lookup(sequence.chain, prompt)
    held = books.admit(sequence.chain, prompt, 0)
    assert books.grow(held, 41)
    books.commit(held, prompt, 41)
    window = held.tables[1]
    first = (41 - 10 + 1) // 4
    assert window[:first] == [0] * first and all(window[first:])
    assert books.groups[1].pool.usable - books.groups[1].pool.available == len(window) - first
    # All blocks are cached still (given back, not overwritten): the whole prefix hits.
    other = make_sequence(books, prompt)
    assert books.lookup(other.chain, prompt) == 10
    claimed = books.admit(other.chain, prompt, 10)
    assert claimed.tables[1][: (40 - 10 + 1) // 4] == [0] * ((40 - 10 + 1) // 4)
    books.release(held)
    books.release(claimed)
    books.check()


def test_content_lost_inside_the_window_shortens_the_hit_for_every_group() -> None:
    books = BlockBooks([FULL, WINDOW], [40, 12], block_size=4)
    prompt = list(range(41))
    sequence = make_sequence(books, prompt)
    books.lookup(sequence.chain, prompt)
    held = books.admit(sequence.chain, prompt, 0)
    assert books.grow(held, 41)
    books.commit(held, prompt, 41)
    books.release(held)
    pool = books.groups[1].pool
    taken = [
        pool.take() for _ in range(pool.available - 1)
    ]  # all but the most recently used lose their content
    assert books.lookup(make_sequence(books, prompt).chain, prompt) < 10
    pool.drop(taken)
    books.check()


# --- the scheduler ----------------------------------------------------------------------------------------------


def test_decodes_come_before_a_long_prompt_in_the_same_step() -> None:
    books = BlockBooks([FULL], [100], block_size=4)
    scheduler = Scheduler(books, max_sequences=8, token_budget=16)
    short, long = make_sequence(books, [1, 2, 3], 0), make_sequence(books, list(range(50)), 1)
    scheduler.add(short)
    run_step(scheduler)
    scheduler.add(long)
    plan = scheduler.plan()
    assert [(item.sequence, item.count) for item in plan] == [(short, 1), (long, 15)]


def test_tokens_that_see_each_other_are_computed_in_one_step() -> None:
    books = BlockBooks([FULL], [100], block_size=4)
    scheduler = Scheduler(books, max_sequences=8, token_budget=8)
    sequence = make_sequence(books, list(range(20)), 0)
    sequence.wholes = ((5, 11), (11, 17))
    scheduler.add(sequence)
    counts = []
    while sequence.computed < 20:
        (item,) = scheduler.plan()
        counts.append(item.count)
        scheduler.advance(item)
    assert counts == [5, 6, 8, 1]


def test_tokens_that_see_each_other_wait_for_a_step_with_room_for_all() -> None:
    books = BlockBooks([FULL], [100], block_size=4)
    scheduler = Scheduler(books, max_sequences=8, token_budget=8)
    long, whole = make_sequence(books, [1] * 12, 0), make_sequence(books, [2] * 6, 1)
    whole.wholes = ((0, 6),)
    scheduler.add(long)
    scheduler.add(whole)
    for expected in ([(long, 8)], [(long, 4)], [(whole, 6)]):
        plan = scheduler.plan()
        assert [(item.sequence, item.count) for item in plan] == expected
        for item in plan:
            scheduler.advance(item)


def test_a_burst_with_one_prefix_computes_it_once() -> None:
    books = BlockBooks([FULL], [100], block_size=4)
    scheduler = Scheduler(books, max_sequences=8, token_budget=64)
    prefix = list(range(32))
    for order in range(4):
        scheduler.add(make_sequence(books, [*prefix, 100 + order], order))
    first = scheduler.plan()
    assert [item.count for item in first] == [33]
    scheduler.advance(first[0])
    first[0].sequence.tokens.append(7)
    assert [item.count for item in scheduler.plan()] == [1, 1, 1, 1]


def test_the_last_in_order_is_preempted_and_comes_back() -> None:
    books = BlockBooks([FULL], [9], block_size=4)
    scheduler = Scheduler(books, max_sequences=4, token_budget=64)
    first, second = make_sequence(books, [1] * 10, 0, limit=24), make_sequence(books, [2] * 10, 1, limit=24)
    scheduler.add(first)
    scheduler.add(second)
    finished: list[Sequence] = []
    for _ in range(60):
        finished += run_step(scheduler)
        books.check()
    assert [sequence.order for sequence in finished] == [0, 1]
    assert second.preemptions > 0 and first.preemptions == 0
    assert books.usage == 0


def test_better_priority_takes_the_place_of_a_running_one() -> None:
    books = BlockBooks([FULL], [50], block_size=4)
    scheduler = Scheduler(books, max_sequences=1, token_budget=64)
    low, high = (
        make_sequence(books, [1] * 5, 0, priority=5, limit=12),
        make_sequence(books, [2] * 5, 1, limit=12),
    )
    scheduler.add(low)
    run_step(scheduler)
    scheduler.add(high)
    run_step(scheduler)
    assert high.state is State.RUNNING and low.state is State.WAITING


def test_one_that_does_not_fit_yet_keeps_its_turn() -> None:
    books = BlockBooks([FULL], [11], block_size=4)
    scheduler = Scheduler(books, max_sequences=4, token_budget=64)
    scheduler.add(make_sequence(books, [1] * 20, 0, limit=30))
    run_step(scheduler)
    large, small = make_sequence(books, [2] * 24, 1), make_sequence(books, [3] * 2, 2)
    scheduler.add(large)
    scheduler.add(small)
    run_step(scheduler)
    assert small.state is State.WAITING


class Books(RuleBasedStateMachine):
    """Any sequence of admit, step, preempt, cancel and finish leaves the books balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.books = BlockBooks([FULL, WINDOW], [18, 12], block_size=4)
        self.scheduler = Scheduler(self.books, max_sequences=3, token_budget=11)
        self.live: list[Sequence] = []
        self.count = 0

    @rule(
        length=st.integers(1, 30),
        extra=st.integers(1, 12),
        start=st.integers(0, 2),
        priority=st.integers(0, 1),
    )
    def add(self, length: int, extra: int, start: int, priority: int) -> None:
        tokens = [(start if i < 8 else start + 1) for i in range(length)]
        sequence = make_sequence(self.books, tokens, self.count, priority, limit=min(length + extra, 36))
        self.count += 1
        self.live.append(sequence)
        self.scheduler.add(sequence)

    @rule(token=st.integers(0, 3))
    def step(self, token: int) -> None:
        for sequence in run_step(self.scheduler, token):
            self.live.remove(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.live))
        self.live.remove(sequence)
        self.scheduler.finish(sequence)

    @precondition(lambda self: self.scheduler.running)
    @rule()
    def preempt(self) -> None:
        self.scheduler._preempt(self.scheduler.running[-1])

    @rule()
    def reset(self) -> None:
        self.books.reset()

    @invariant()
    def balanced(self) -> None:
        self.books.check()
        held = {id(s) for s in self.live if s.held is not None}
        assert held == {id(s) for s in self.scheduler.running}
        for number, group in enumerate(self.books.groups):
            blocks = {b for s in self.scheduler.running for b in s.held.tables[number] if b}  # type: ignore[union-attr]
            assert group.pool.usable - group.pool.available == len(blocks)

    def teardown(self) -> None:
        for _ in range(2000):  # everybody who is left finishes: nobody starves
            if not self.live:
                break
            for sequence in run_step(self.scheduler):
                self.live.remove(sequence)
        assert not self.live
        assert self.books.usage == 0
        assert not self.books._announced


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- tensors ----------------------------------------------------------------------------------------------------


def test_a_pool_on_the_cpu_takes_memory_only_where_it_was_written() -> None:
    group = KVGroup("full", tuple(range(8)), kv_heads=2, key_dim=128, value_dim=128)
    process, blocks = psutil.Process(), 1024  # 16 tensors of 8 MB
    before = process.memory_info().rss
    cache = KVCache([group], [blocks], 16, dtype=torch.bfloat16, device=torch.device("cpu"))
    whole = sum(layer.key.nbytes + layer.value.nbytes for layer in cache.layers)
    assert process.memory_info().rss - before < whole / 4
    assert not any(layer.key[blocks // 2 :].any() for layer in cache.layers[:2])
    cache.layers[0].key.fill_(1)
    assert cache.layers[0].key.sum() == cache.layers[0].key.numel()
    assert not cache.layers[1].key.any()
