"""The protocol all three kinds of stage answer, and what they emit.

    admit    take a request in, or refuse it for good (memory is reserved when it is planned)
    plan     choose a batch within the budget
    step     run it; returns the chunks it produced
    release  forget a request and give back everything it holds

A batch is a list of items, each of one request, so that the loop can tell whose fault a failure is by running the
items alone: `step` must change nothing before its computation has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tutti.errors import TuttiError
from tutti.events import TokenLogprob
from tutti.graph import Chunk
from tutti.request import Request


class Item(Protocol):
    """One request's share of a batch."""

    @property
    def request_id(self) -> str:
        """Whose it is."""
        ...


class Runner(Protocol):
    """A stage at work on one device."""

    name: str

    def admit(self, request: Request) -> None:
        """Take a request. Raises TuttiError when it can never be served."""
        ...

    def feed(self, chunk: Chunk) -> None:
        """Take what an edge's bridge made for a request that was admitted before."""
        ...

    def urgency(self) -> float | None:
        """The earliest deadline of its work, in monotonic seconds; None when there is none."""
        ...

    def full(self, request_id: str) -> bool:
        """Whether it has enough to do for a request: the stages that feed it rest with that request.

        Only while the request advances here by itself, so that nobody waits for each other.
        """
        ...

    def plan(self, rests: Callable[[str], bool]) -> Sequence[Any]:
        """The items of the next step; empty when nothing can advance now. Requests that rest are left out."""
        ...

    def step(self, batch: Sequence[Any]) -> list[Chunk]:
        """Run `batch`. A request's last chunk is final; its holdings are given back by then."""
        ...

    @property
    def waiting(self) -> int:
        """How much waits for its turn: requests, or items of them."""
        ...

    def release(self, request_id: str) -> Any:
        """Forget a request, wherever it is; unknown ids are ignored.

        Returns the payload that closes its output early (what it cost so far), or None.
        """
        ...


class Settles(Protocol):
    """Another loop that sends chunks to this one and is told how many were taken."""

    def settle(self, full: Callable[[str, str], bool]) -> None:
        """Tell it. `full` says of a stage and a request whether the stages behind have enough to do."""
        ...


def nobody(request_id: str) -> bool:
    """Who rests where nothing follows."""
    return False


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something from another loop: `take`, called in this loop's thread, gives the chunks it brought."""

    take: Callable[[], list[Chunk]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an autoregressive output ended, and what it cost (seconds)."""

    reason: str  # stop | length | cancelled
    stop: int | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_time: float
    prefill_time: float
    decode_time: float


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """What one step of an autoregressive stage emits for one request.

    `rows` [tokens, width] are those of the tokens that were computed in the step (not of those it sampled), where other
    stages want them; there may be rows without new tokens, while a prompt is computed. `codes` are those that go
    with each token, if the model completes its tokens.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    ending: Ending | None = None
    rows: Tensor | None = None
    codes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """The request failed in this stage."""

    error: TuttiError
