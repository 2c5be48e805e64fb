"""Beam search over an `LLM`, as vLLM has it: a search above the engine, one step of one token for all beams at a time.

The prefix cache makes each step compute one token per beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tutti.request import BeamSearchParams, SamplingParams

if TYPE_CHECKING:
    from tutti.llm.batch import LLM


@dataclass(slots=True)
class BeamSearchSequence:
    """A beam: `tokens` include the prompt; `cum_logprob` is of the output alone."""

    tokens: list[int]
    cum_logprob: float = 0.0
    text: str = ""
    finish_reason: str | None = None

    def score(self, eos_ids: frozenset[int], length_penalty: float) -> float:
        """The log-probability per token, to the power of `length_penalty`; a final EOS does not count."""
        length = len(self.tokens) - (1 if self.tokens[-1] in eos_ids else 0)
        return self.cum_logprob / max(length, 1) ** length_penalty


@dataclass(slots=True)
class BeamSearchOutput:
    """The best beams of a prompt, best first."""

    sequences: list[BeamSearchSequence] = field(default_factory=list)


def beam_search(llm: LLM, prompt: Sequence[int], params: BeamSearchParams) -> BeamSearchOutput:
    """The `beam_width` likeliest outputs of `prompt`, a list of token ids."""
    eos_ids = frozenset() if params.ignore_eos else llm.processor.tokenizer.eos_ids
    step = SamplingParams(
        temperature=params.temperature, max_tokens=1, logprobs=2 * params.beam_width, ignore_eos=True
    )
    live = [BeamSearchSequence(list(prompt))]
    finished: list[BeamSearchSequence] = []
    for _ in range(params.max_tokens):
        outputs = llm.generate([{"prompt_token_ids": beam.tokens} for beam in live], step)
        candidates: list[BeamSearchSequence] = []
        for beam, output in zip(live, outputs, strict=True):
            choices = (output.outputs[0].logprobs or [{}])[0]
            for token, choice in choices.items():
                longer = BeamSearchSequence([*beam.tokens, token], beam.cum_logprob + choice.logprob)
                if token in eos_ids:
                    longer.finish_reason = "stop"
                    finished.append(longer)
                else:
                    candidates.append(longer)
        candidates.sort(key=lambda beam: beam.cum_logprob, reverse=True)
        live = candidates[: params.beam_width]
        if not live:
            break
    for beam in live:
        beam.finish_reason = "length"
    best = sorted(finished + live, key=lambda beam: beam.score(eos_ids, params.length_penalty), reverse=True)[
        : params.beam_width
    ]
    for beam in best:
        beam.text = llm.processor.tokenizer.decode(beam.tokens)
    return BeamSearchOutput(best)
