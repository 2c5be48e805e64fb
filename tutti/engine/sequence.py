"""One request inside an autoregressive stage: its tokens and how far they are computed.

There are no phases. A sequence's `computed` tokens catch up with its `tokens` (prompt and output); whenever they have,
one more token is sampled. Prefill, decode, recomputation after a preemption and verification of drafts are all the
same catching up.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from tutti.engine.kv.cache import Held
from tutti.engine.kv.hashing import HashChain
from tutti.engine.rows import TokenRows
from tutti.engine.stage import Ending
from tutti.events import TokenLogprob
from tutti.models.encoders.pooling import Gathered
from tutti.request import Request, SamplingParams


class State(Enum):
    """Where a sequence is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True)
class Timing:
    """Monotonic times in seconds; 0 until they are known."""

    arrival: float = 0.0
    first_step: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's tokens, and everything the stage keeps for it between steps."""

    request: Request
    sampling: SamplingParams
    tokens: list[int]
    prompt_length: int
    limit: int  # the most tokens at a time, prompt included
    chain: HashChain
    order: int  # of arrival, breaks ties
    most: int = 2**63 - 1  # the most tokens of the output
    stop_ids: frozenset[int] = frozenset()  # ids that end it, EOS included unless ignored
    shifts: bool = False  # whether it goes on without its older tokens where `limit` is reached
    dropped: int = 0  # tokens that went so
    given: bool = False  # whether the tokens behind the prompt were given: none is sampled
    sampler: Any = None  # layers.sampling.SamplerState
    grammar: Any = None  # layers.grammar.GrammarState
    compiling: Future[Any] | None = None  # the grammar, while a thread compiles it
    codes: list[tuple[int, ...]] = field(default_factory=list)  # that go with each token of the output
    rows: TokenRows | None = None  # what other stages computed for its tokens
    gathered: Gathered | None = None  # of a prompt that becomes a vector: none of its tokens is sampled
    emits: bool = False  # whether other stages want rows of its tokens
    emits_prompt: bool = False  # and whether of those of its prompt, too
    emitted: int = 0  # tokens whose rows they have, or do not want
    wholes: tuple[tuple[int, int], ...] = ()  # (start, stop) of tokens that are computed in one step
    places: np.ndarray | None = None  # [axes, prompt] positions, where they are not just 0, 1, 2, ...
    rests: bool = False  # while other stages have enough to do with what it emitted
    state: State = State.WAITING
    computed: int = 0
    cached: int = 0  # prompt tokens that came from the prefix cache at first admission
    held: Held | None = None
    memory: Any = (
        None  # what the model keeps of the request's media, while it runs (models.protocols.Remembers)
    )
    preemptions: int = 0
    timing: Timing = field(default_factory=Timing)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id

    @property
    def behind(self) -> int:
        """Tokens that are known but not computed."""
        return len(self.tokens) - self.computed

    @property
    def due(self) -> int:
        """Tokens that can be computed now; fewer than `behind` where rows of other stages are missing, or it rests."""
        if self.rests:
            return 0
        known = len(self.tokens)
        return (known if self.rows is None else int(min(known, self.rows.available))) - self.computed

    def within(self, room: int, start: int | None = None) -> int:
        """How many of the tokens that are due a step with `room` takes, from `start` or the first uncomputed one on.

        It stops before tokens that must be computed together when not all of them fit.
        """
        first = self.computed if start is None else start
        stop = min(self.computed + self.due, first + room)
        cut = next((begin for begin, end in self.wholes if begin < stop < end), stop)
        return max(0, cut - first)

    def visible(self, count: int) -> np.ndarray:
        """How many tokens each of the next `count` sees, int32 [count]: those up to itself, or all of its whole."""
        start, stop = self.computed, self.computed + count
        seen = np.arange(start + 1, stop + 1, dtype=np.int32)
        for begin, end in self.wholes:
            low, high = max(begin, start), min(end, stop)
            if low < high:
                seen[low - start : high - start] = end
        return seen

    @property
    def ready(self) -> bool:
        """Whether nothing but memory and budget keeps it from running."""
        return (self.compiling is None or self.compiling.done()) and self.due > 0

    @property
    def needs_all(self) -> bool:
        """Whether every token must be computed, cached or not: something is wanted of each."""
        pools = self.gathered is not None and self.gathered.kind != "lasttoken"
        logged = self.sampling.prompt_logprobs is not None and not self.outputs
        return self.emits_prompt or pools or logged

    @property
    def outputs(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) + self.dropped - self.prompt_length

    def shift(self, keep: int, chain: HashChain) -> None:
        """Lose the older half of all tokens but the first `keep`; what is left is computed anew, under `chain`."""
        count = max((len(self.tokens) - keep) // 2, 1)
        del self.tokens[keep : keep + count]
        self.dropped += count
        self.chain = chain

    @property
    def rank(self) -> tuple[int, float, int]:
        """The order of service: priority, then arrival."""
        return (self.request.priority, self.request.arrival, self.order)

    def account(self, reason: str, stop: int | None) -> Ending:
        """How it ended and what it cost; times that were never reached count as nothing."""
        timing = self.timing
        first_step = timing.first_step or time.monotonic()
        first_token = timing.first_token or first_step
        return Ending(
            reason,
            stop,
            self.prompt_length,
            self.cached,
            self.outputs,
            first_step - timing.arrival,
            first_token - first_step,
            max(0.0, timing.last_token - first_token),
        )

    def placed(self, count: int) -> np.ndarray:
        """Positions int64 [axes, count] of the next `count` tokens: the prompt's own, then one after the other."""
        assert self.places is not None
        start, stop = self.computed, self.computed + count
        inside = self.places[:, start : min(stop, self.prompt_length)]
        if stop <= self.prompt_length:
            return inside
        beyond = np.arange(max(start, self.prompt_length), stop) - self.prompt_length + self.places.max() + 1
        return np.concatenate([inside, np.broadcast_to(beyond, (len(self.places), len(beyond)))], axis=1)
