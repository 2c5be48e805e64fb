"""What sampling remembers of one request, on the host: its tokens, their counts, its place in its random stream.

The state survives preemption, because nothing of it lives on a device or in a batch. It imports no torch; the
tensor work is in `sampling`, `penalties` and `candidates`.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from tutti.errors import InvalidRequest
from tutti.request import SamplingParams

_MASK = (1 << 64) - 1
_FURTHER = 0xD1B54A32D192ED03  # tells the codes' stream from the tokens'
_GAMMA = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the increment of SplitMix64

# vLLM's bounds: below the first a temperature means greedy, between the two it counts as the second.
GREEDY_BELOW = 1e-5
LOWEST_TEMPERATURE = 1e-2


def _mix(value: int) -> int:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014): 64 bits to 64 well-stirred bits."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that `seed` gives the output token at `position`: nothing else enters it.

    A counter-based stream (SplitMix64 started at the mixed seed), so that a token's number is the same alone, in any
    batch, after a preemption and after a rollback.
    """
    return (_mix((_mix(seed & _MASK) + (position + 1) * _GAMMA) & _MASK) >> 11) * 2.0**-53


class TokenCounts:
    """Distinct tokens of a request and how often each occurs in its output; adding and taking back are O(1).

    A token of the prompt alone has count 0. The arrays are views of buffers that grow by doubling.
    """

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        known = list(dict.fromkeys(prompt_ids))
        self._from_prompt = self._size = len(known)
        self._slots = {token: slot for slot, token in enumerate(known)}
        capacity = max(64, 2 * len(known))
        self._ids = np.zeros(capacity, np.int64)
        self._ids[: len(known)] = known
        self._counts = np.zeros(capacity, np.float32)

    @property
    def ids(self) -> np.ndarray:
        """int64 [distinct]: the tokens, each once."""
        return self._ids[: self._size]

    @property
    def counts(self) -> np.ndarray:
        """float32 [distinct]: occurrences in the output, in the order of `ids`."""
        return self._counts[: self._size]

    def add(self, token: int) -> None:
        """Count one more `token` of the output."""
        slot = self._slots.get(token)
        if slot is None:
            slot = self._size
            if slot == len(self._ids):
                self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
                self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
            self._slots[token] = slot
            self._ids[slot], self._counts[slot] = token, 0.0
            self._size += 1
        self._counts[slot] += 1.0

    def remove(self, token: int) -> None:
        """Take back the `token` added last.

        Taking back in reverse order empties slots in the reverse order of their making, so an emptied one is the
        last, unless the prompt holds the token too.
        """
        slot = self._slots[token]
        self._counts[slot] -= 1.0
        if self._counts[slot] == 0.0 and slot >= self._from_prompt:
            self._size -= 1
            del self._slots[token]


class RecentCounts:
    """Distinct tokens among the last `size` of prompt and output, and how often each occurs there.

    It counts anew at every token, as windows are short. This is `repeat_last_n` of llama.cpp.
    """

    def __init__(self, prompt_ids: Sequence[int], size: int) -> None:
        self._size = size
        self._tokens = list(prompt_ids[-size:])  # those of the output follow
        self._count()

    def add(self, token: int) -> None:
        """Count one more `token` of the output; the oldest of the window leaves it."""
        self._tokens.append(token)
        self._count()

    def remove(self, token: int) -> None:
        """Take back the `token` added last."""
        self._tokens.pop()
        self._count()

    def _count(self) -> None:
        window = np.array(self._tokens[-self._size :], np.int64)
        self.ids, counts = np.unique(window, return_counts=True)
        self.counts = counts.astype(np.float32)


class SamplerState:
    """One request's sampling: its parameters, its output so far and its own stream of random numbers.

    `eos_ids` are the model's end tokens (with the request's `stop_token_ids` they are what `min_tokens` holds back);
    `bad_word_ids` comes from `bad_word_sequences`; `seed` overrides that of `params` (for the outputs of n > 1); with
    neither, the seed is drawn from the system.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        eos_ids: Collection[int],
        bad_word_ids: Sequence[Sequence[int]] = (),
        seed: int | None = None,
    ) -> None:
        self.params = params
        self.output: list[int] = []
        if seed is None:
            seed = secrets.randbits(64) if params.seed is None else params.seed
        self.seed = seed
        self.greedy = params.temperature < GREEDY_BELOW
        self.temperature = 1.0 if self.greedy else max(params.temperature, LOWEST_TEMPERATURE)
        self.filtered = not self.greedy and (params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0)
        self.held_back = tuple(dict.fromkeys((*eos_ids, *params.stop_token_ids)))
        self.bad_words = tuple(tuple(word) for word in bad_word_ids if word)
        repeats = params.repetition_penalty != 1.0
        self.penalized = repeats or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
        self.counts: TokenCounts | RecentCounts | None = None
        if self.penalized and params.penalty_window is not None:
            self.counts = RecentCounts(prompt_ids, params.penalty_window)
        elif self.penalized:
            self.counts = TokenCounts(prompt_ids if repeats else ())
        self._always_shaped = bool(
            self.penalized or self.bad_words or params.logit_bias or params.allowed_token_ids is not None
        )

    @property
    def position(self) -> int:
        """How many tokens of output were accepted: the place of the next one."""
        return len(self.output)

    @property
    def shaped(self) -> bool:
        """Whether the next token's logits are changed before it is chosen (temperature and filters apart)."""
        return self._always_shaped or self.position < self.params.min_tokens

    def uniform(self) -> float:
        """The random number in [0, 1) of the next token."""
        return uniform(self.seed, self.position)

    def further(self, count: int) -> list[float]:
        """Random numbers in [0, 1) for `count` codes that go with the next token; NaN where nothing is drawn."""
        if self.greedy:
            return [math.nan] * count
        first = self.position * count
        return [uniform(self.seed ^ _FURTHER, first + place) for place in range(count)]

    def forbidden(self) -> Iterator[int]:
        """Tokens that must not come next: ends held back by `min_tokens`, and ends of bad words."""
        if self.position < self.params.min_tokens:
            yield from self.held_back
        for word in self.bad_words:
            before = len(word) - 1
            if self.position >= before and tuple(self.output[self.position - before :]) == word[:-1]:
                yield word[-1]

    def accept(self, token: int) -> None:
        """Take `token` as the next of the output."""
        self.output.append(token)
        if self.counts is not None:
            self.counts.add(token)

    def rollback(self, tokens: int = 1) -> None:
        """Take the last `tokens` tokens of the output back."""
        if tokens > self.position:
            raise ValueError(f"cannot take back {tokens} tokens, the output has {self.position}")
        for _ in range(tokens):
            token = self.output.pop()
            if self.counts is not None:
                self.counts.remove(token)


def check_token_ids(params: SamplingParams, vocab_size: int) -> None:
    """Refuse token ids that the model does not have. Raises `InvalidRequest` naming the parameter."""
    for name, ids in (
        ("logit_bias", params.logit_bias or ()),
        ("allowed_token_ids", params.allowed_token_ids or ()),
        ("stop_token_ids", params.stop_token_ids),
    ):
        wrong = [token for token in ids if not 0 <= token < vocab_size]
        if wrong:
            raise InvalidRequest(
                f"{name} names token {wrong[0]}, but the vocabulary's tokens are 0 to {vocab_size - 1}",
                param=name,
            )
