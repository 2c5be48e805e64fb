"""From logits to tokens: one batch, every row with its own parameters.

This file decides what a batch needs and runs only that; the arithmetic is in `penalties` (before temperature),
`candidates` (filters and draws) and `logprobs`; what is remembered of a request is in `sampler_state`. Whether a
request ends is not decided here.

A row's token depends on its logits, its parameters, its seed and its place in its output, never on the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.errors import InvalidRequest, StageFailed, TuttiError
from tutti.events import TokenLogprob
from tutti.kernels import argmax
from tutti.layers.candidates import Filters, draw, draw_filtered
from tutti.layers.logprobs import gather_logprobs
from tutti.layers.penalties import shape_logits
from tutti.layers.sampler_state import SamplerState, check_token_ids

__all__ = ["SampleResult", "Sampler", "SamplerState", "check_token_ids", "gather_logprobs"]


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One entry per row. Where `errors` has one, the token is -1 and that request alone has failed."""

    tokens: list[int]
    logprobs: list[TokenLogprob | None]
    errors: list[TuttiError | None]


class Sampler:
    """Chooses tokens for batches of rows; holds no state between calls.

    The order is vLLM's: grammar mask, `allowed_token_ids`, `bad_words`, `min_tokens`, `logit_bias`, penalties; then
    the highest logit (temperature 0) or temperature, `min_p`, `top_k`, `top_p` and a draw. Log-probabilities are the
    model's own, of the logits before any of that.
    """

    def __init__(self, vocab_size: int, device: torch.device | str) -> None:
        self.vocab_size = vocab_size
        self.device = torch.device(device)

    def sample(
        self, logits: Tensor, states: Sequence[SamplerState], bitmask: Tensor | None = None
    ) -> SampleResult:
        """Choose the next token of every row; the states are read, not changed: `accept` what is kept.

        `logits`: float32 [rows, vocab_size], changed in place; `states`: one per row; `bitmask`: int32
        [rows, ceil(vocab_size / 32)] on the host, rows of -1 where there is no grammar. A row whose logits are NaN
        or infinite, or to which masks leave no token, gets an error; the others are not affected.
        """
        if logits.shape != (len(states), self.vocab_size):
            raise ValueError(f"logits {list(logits.shape)} are not [{len(states)}, {self.vocab_size}]")
        logits = logits.float().contiguous()
        wanted = [row for row, state in enumerate(states) if state.params.logprobs is not None]
        shaped = bitmask is not None or any(state.shaped for state in states)
        drawn = [row for row, state in enumerate(states) if not state.greedy]
        errors: list[TuttiError | None] = [None] * len(states)
        raw = None
        if wanted:
            raw = logits[wanted] if shaped or drawn else _rows(logits, wanted)
            _mark(errors, wanted, raw.amax(-1), shaped=False)
        if shaped:
            shape_logits(logits, states, bitmask)
        tokens = (
            self._draw(logits, states, drawn, errors, shaped) if drawn else _greedy(logits, errors, shaped)
        )
        logprobs = _logprobs(raw, wanted, tokens, states, errors)
        tokens = [-1 if error else token for token, error in zip(tokens, errors, strict=True)]
        return SampleResult(tokens, logprobs, errors)

    def _draw(
        self,
        logits: Tensor,
        states: Sequence[SamplerState],
        drawn: list[int],
        errors: list[TuttiError | None],
        shaped: bool,
    ) -> list[int]:
        """Choose where at least one row is drawn, the rows of one kind together."""
        peaks = logits.amax(-1)
        for row in _mark(errors, range(len(states)), peaks, shaped=shaped):
            logits[row].zero_()  # keeps what follows free of NaN; its token is thrown away
        tokens = torch.zeros(len(states), dtype=torch.int64, device=logits.device)
        greedy = [row for row, state in enumerate(states) if state.greedy]
        if greedy:
            tokens[greedy] = argmax(_rows(logits, greedy))
        logits.sub_(logits.amax(-1, keepdim=True))
        logits.div_(torch.tensor([[state.temperature] for state in states], device=logits.device))
        plain = [row for row in drawn if not states[row].filtered]
        if plain:
            tokens[plain] = draw(_rows(logits, plain).exp_(), self._uniforms(states, plain))
        filtered = [row for row in drawn if states[row].filtered]
        if filtered:
            filters = self._filters([states[row] for row in filtered])
            tokens[filtered] = draw_filtered(
                _rows(logits, filtered), filters, self._uniforms(states, filtered)
            )
        return tokens.tolist()

    def _uniforms(self, states: Sequence[SamplerState], rows: list[int]) -> Tensor:
        numbers = [states[row].uniform() for row in rows]
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)

    def _filters(self, states: Sequence[SamplerState]) -> Filters:
        """The filters of `states`, with what is off made explicit."""
        vocab = self.vocab_size
        top_k = [min(state.params.top_k, vocab) if state.params.top_k > 0 else vocab for state in states]
        return Filters(
            torch.tensor(top_k, device=self.device),
            torch.tensor([state.params.top_p for state in states], dtype=torch.float64, device=self.device),
            torch.tensor([state.params.min_p for state in states], dtype=torch.float64, device=self.device),
        )


def _rows(logits: Tensor, rows: list[int]) -> Tensor:
    """`logits[rows]`, without a copy when that is all of them."""
    return logits if len(rows) == len(logits) else logits[rows]


def _greedy(logits: Tensor, errors: list[TuttiError | None], shaped: bool) -> list[int]:
    """The likeliest token of every row (the fast path: nothing is drawn)."""
    tokens = argmax(logits)  # NaN counts as the highest, so the peak tells of it
    _mark(errors, range(len(tokens)), logits.gather(1, tokens.unsqueeze(1)).squeeze(1), shaped=shaped)
    return tokens.tolist()


def _mark(errors: list[TuttiError | None], rows: Sequence[int], peaks: Tensor, *, shaped: bool) -> list[int]:
    """Set the error of each of `rows` whose highest logit is not finite; returns those rows."""
    bad = []
    for row, peak in zip(rows, peaks.tolist(), strict=True):
        if peak - peak != 0.0:  # NaN, +inf, -inf
            errors[row] = errors[row] or _error(peak, shaped)
            bad.append(row)
    return bad


def _error(peak: float, shaped: bool) -> TuttiError:
    if shaped and peak == -torch.inf:
        return InvalidRequest(
            "no token is left to choose from: the structured output, allowed_token_ids, bad_words, logit_bias and "
            "min_tokens together exclude all of them; relax one of these"
        )
    return StageFailed(
        f"the model's logits are not finite (the highest is {peak}), so no token can be chosen"
    )


def _logprobs(
    raw: Tensor | None,
    wanted: list[int],
    tokens: list[int],
    states: Sequence[SamplerState],
    errors: list[TuttiError | None],
) -> list[TokenLogprob | None]:
    """Log-probabilities of the chosen tokens for the rows `wanted`, from their unchanged logits `raw`."""
    found: list[TokenLogprob | None] = [None] * len(states)
    if raw is not None:
        tops = [states[row].params.logprobs or 0 for row in wanted]
        for row, value in zip(
            wanted, gather_logprobs(raw, [tokens[row] for row in wanted], tops), strict=True
        ):
            found[row] = None if errors[row] else value
    return found
