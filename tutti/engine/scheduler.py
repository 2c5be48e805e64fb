"""Who gets which tokens computed in the next step.

One rule: every running sequence is given the tokens it is behind, within a budget of tokens per step; what is left of
the budget admits those who wait, in order of priority and arrival. Sequences that only need their next token come
first (one token each), so a long prompt never stalls the others' decode: it is computed in the chunks that remain.

Memory runs out only by growth: then the last in order is preempted (its blocks are given back, its tokens stay, and it
is computed again later, mostly from the prefix cache).

A request whose next missing block is being computed for another request right now waits for it: a burst of requests
with one long system prompt computes it once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from tutti.engine.kv.cache import BlockBooks
from tutti.engine.sequence import Sequence, State


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`count` tokens of `sequence`, from its first uncomputed one on."""

    sequence: Sequence
    count: int

    @property
    def request_id(self) -> str:
        """Whose tokens these are."""
        return self.sequence.id

    @property
    def samples(self) -> bool:
        """Whether the sequence has caught up after this, so that a token is sampled, if one is wanted."""
        sequence = self.sequence
        return self.count == sequence.behind and not sequence.given and sequence.gathered is None


class Scheduler:
    """The queue and the running set of one autoregressive stage."""

    def __init__(self, books: BlockBooks, *, max_sequences: int, token_budget: int) -> None:
        if token_budget < 1 or max_sequences < 1:
            raise ValueError("a step needs a budget of at least one token and one sequence")
        self.books = books
        self.max_sequences = max_sequences
        self.token_budget = token_budget
        self.running: list[Sequence] = []  # in order of service
        self._waiting: list[tuple[tuple[int, float, int], Sequence]] = []  # a heap
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        """How many sequences wait."""
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a new or preempted sequence."""
        sequence.state = State.WAITING
        heapq.heappush(self._waiting, (sequence.rank, sequence))

    def plan(self) -> list[Scheduled]:
        """The next step. Empty when nobody can advance now."""
        self._yield_to_priority()
        preemptions = self.preemptions
        budget = self.token_budget
        batch: list[Scheduled] = []
        due = [sequence for sequence in self.running if sequence.due > 0]
        decoding = [sequence for sequence in due if sequence.behind == 1]
        catching_up = [sequence for sequence in due if sequence.behind > 1]
        for sequence in decoding + catching_up:
            if budget == 0:
                break
            if sequence.state is not State.RUNNING:
                continue  # preempted to make room for one before it
            count = sequence.within(budget)
            if count and self._make_room(sequence, count):
                batch.append(Scheduled(sequence, count))
                budget -= count
        if self.preemptions > preemptions:  # memory is short: nobody new in this step
            return [item for item in batch if item.sequence.state is State.RUNNING]
        return batch + self._admit(budget)

    def finish(self, sequence: Sequence) -> None:
        """Give back everything a sequence holds; it never runs again."""
        if sequence.state is State.WAITING:
            self._waiting = [entry for entry in self._waiting if entry[1] is not sequence]
            heapq.heapify(self._waiting)
        elif sequence.state is State.RUNNING:
            self.running.remove(sequence)
            self._give_back(sequence)
        sequence.state = State.FINISHED

    def advance(self, item: Scheduled) -> None:
        """After a step: the scheduled tokens are computed."""
        sequence = item.sequence
        sequence.computed += item.count
        assert sequence.held is not None
        self.books.commit(sequence.held, sequence.tokens, sequence.computed)

    def _yield_to_priority(self) -> None:
        """Preempt the last in order when one of strictly better priority waits for its place or its memory."""
        if not self._waiting or not self.running:
            return
        first, last = self._waiting[0][1], self.running[-1]
        if first.request.priority >= last.request.priority or not first.ready:
            return
        full = len(self.running) >= self.max_sequences
        if full or not self._fits(first, self._hit(first), len(self.running)):
            self._preempt(last)

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Hold blocks for `count` more tokens, preempting from the end of the order. False: it preempted itself."""
        assert sequence.held is not None
        while not self.books.grow(sequence.held, sequence.computed + count):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence) -> None:
        self.restart(victim)
        victim.preemptions += 1
        self.preemptions += 1

    def restart(self, sequence: Sequence) -> None:
        """Have a running sequence give back its memory and be computed again from its first token on."""
        self.running.remove(sequence)
        self._give_back(sequence)
        sequence.computed = 0
        self.add(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        assert sequence.held is not None
        self.books.release(sequence.held)
        sequence.held = sequence.memory = None

    def _admit(self, budget: int) -> list[Scheduled]:
        """Take waiting sequences in order while budget, places and memory last."""
        admitted: list[Scheduled] = []
        deferred: list[tuple[tuple[int, float, int], Sequence]] = []
        while self._waiting and budget > 0 and len(self.running) < self.max_sequences:
            sequence = self._waiting[0][1]
            hit = self._hit(sequence) if sequence.ready else 0
            if not sequence.ready or self._awaits(sequence, hit):
                deferred.append(heapq.heappop(self._waiting))
                continue
            if not sequence.within(budget, hit * self.books.block_size):
                break  # what it needs computed in one step waits for a step with more room
            if not self._fits(sequence, hit, len(self.running)):
                break  # it keeps its turn: nobody behind it is served first
            heapq.heappop(self._waiting)
            admitted.append(self._start(sequence, hit, budget))
            budget -= admitted[-1].count
        for entry in deferred:
            heapq.heappush(self._waiting, entry)
        return admitted

    def _hit(self, sequence: Sequence) -> int:
        """Cached blocks it can start from; none when something of every token is wanted."""
        if sequence.needs_all:
            sequence.chain.extend(sequence.tokens)
            return 0
        return self.books.lookup(sequence.chain, sequence.tokens)

    def _awaits(self, sequence: Sequence, hit: int) -> bool:
        return not sequence.needs_all and self.books.awaits(sequence.chain, sequence.tokens, hit)

    def _fits(self, sequence: Sequence, hit: int, spare: int) -> bool:
        return self.books.fits(len(sequence.tokens), hit, sequence.chain, self.token_budget, spare)

    def _start(self, sequence: Sequence, hit: int, budget: int) -> Scheduled:
        sequence.held = self.books.admit(sequence.chain, sequence.tokens, hit)
        sequence.computed = hit * self.books.block_size
        if not sequence.preemptions and not sequence.dropped:
            sequence.cached = sequence.computed
        sequence.state = State.RUNNING
        self.running.append(sequence)
        self.running.sort(key=lambda one: one.rank)
        count = sequence.within(budget)
        if not self.books.grow(sequence.held, sequence.computed + count):
            raise AssertionError("a sequence that fits could not be held")
        return Scheduled(sequence, count)
