"""What `LLM` returns: vLLM's names and shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar


@dataclass(frozen=True, slots=True)
class Logprob:
    """One token's log-probability; `rank` 1 is the most likely."""

    logprob: float
    rank: int | None
    decoded_token: str


@dataclass(slots=True)
class CompletionOutput:
    """One output of a prompt. `logprobs` has one dict of token id -> `Logprob` per token, when asked for."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(slots=True)
class RequestOutput:
    """All outputs of one prompt. `prompt_logprobs` begins with None: nothing predicts the first token."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    num_cached_tokens: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class PoolingOutput:
    """The vector of a prompt, a torch tensor float32 [numbers]."""

    data: Any


@dataclass(frozen=True, slots=True)
class EmbeddingOutput:
    """The vector of a prompt."""

    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        """How many numbers it has."""
        return len(self.embedding)


@dataclass(frozen=True, slots=True)
class ScoringOutput:
    """How well the second text of a pair answers the first."""

    score: float


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolingRequestOutput(Generic[T]):
    """What was made of one prompt, or of one pair, as a whole."""

    request_id: str
    outputs: T
    prompt_token_ids: list[int]
    num_cached_tokens: int = 0
    finished: bool = True


class EmbeddingRequestOutput(PoolingRequestOutput[EmbeddingOutput]):
    """What `LLM.embed` gives for a prompt."""

    __slots__ = ()


class ScoringRequestOutput(PoolingRequestOutput[ScoringOutput]):
    """What `LLM.score` gives for a pair."""

    __slots__ = ()
