"""What is measured: four workloads, as token ids.

Owns the shapes of the workloads and their prompts. Token ids rather than text, so that no tokenizer is part of a
measurement; drawn from a seed, so that every peer answers the same prompts, and so that a warm-up with another seed
leaves nothing of them in a prefix cache. Pure Python: it runs inside every peer's environment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_PLAIN_ID = 256  # below are the special tokens and bytes of the generated tokenizer


@dataclass(frozen=True, slots=True)
class Workload:
    """`requests` prompts of `shared` common and `own` different tokens, each answered with exactly `output` tokens.

    The shared tokens stand for a system prompt in daily use: one request has brought them before (the primer, which is
    not timed), and a prefix cache may keep them.

    `metric` names what is reported: "decode_tok_s" (output tokens after the first, per second), "prefill_tok_s"
    (prompt tokens per second), "output_tok_s" (all output tokens per second) or "seconds". `repeats` is how often it
    is measured in one process, with other prompts each time; the median counts.
    """

    name: str
    title: str
    metric: str
    requests: int
    shared: int
    own: int
    output: int
    repeats: int = 1

    @property
    def prompt_tokens(self) -> int:
        """Tokens of one prompt."""
        return self.shared + self.own

    def prompts(self, vocab_size: int, seed: int) -> list[list[int]]:
        """The prompts as token ids below `vocab_size`, the same for the same seed."""
        return self._draw(vocab_size, seed)[:-1]

    def primer(self, vocab_size: int, seed: int) -> list[int]:
        """One more prompt with the shared tokens of `prompts(vocab_size, seed)`."""
        return self._draw(vocab_size, seed)[-1]

    def _draw(self, vocab_size: int, seed: int) -> list[list[int]]:
        draw = random.Random(f"{self.name}/{seed}")

        def tokens(count: int) -> list[int]:
            return [draw.randrange(FIRST_PLAIN_ID, vocab_size) for _ in range(count)]

        prefix = tokens(self.shared)
        return [prefix + tokens(self.own) for _ in range(self.requests + 1)]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "one request, 128 in, 128 out", "decode_tok_s", 1, 0, 128, 128),
        Workload("W2", "one prompt of 1,024", "prefill_tok_s", 1, 0, 1024, 1, repeats=3),
        Workload("W3", "32 requests at once, 128 in, 128 out", "output_tok_s", 32, 0, 128, 128),
        Workload(
            "W4", "32 requests, 512 shared (seen before) + 32 own in, 32 out", "seconds", 32, 512, 32, 32
        ),
    )
}

UNITS = {"decode_tok_s": "tok/s", "prefill_tok_s": "tok/s", "output_tok_s": "tok/s", "seconds": "s"}


def is_better(metric: str, value: float, other: float) -> bool:
    """Whether `value` beats `other` in `metric`: less for seconds, more for rates."""
    return value < other if metric == "seconds" else value > other


def ratio(metric: str, value: float, reference: float) -> float:
    """How many times as fast as `reference`: above 1 is faster, whatever the metric."""
    return reference / value if metric == "seconds" else value / reference
