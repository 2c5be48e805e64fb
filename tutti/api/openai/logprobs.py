"""Log-probabilities as OpenAI's two endpoints show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutti.api.openai import answers
from tutti.events import TokenLogprob

if TYPE_CHECKING:
    from tutti.models.processor import Tokenizer

_LEAST = -9999.0  # stands for minus infinity, which JSON has no word for


@dataclass(frozen=True, slots=True)
class LogprobEncoder:
    """Encodes for one model; `top` is how many alternatives the caller asked for."""

    tokenizer: Tokenizer
    top: int
    as_ids: bool = False  # write tokens as "token_id:<id>", which is never ambiguous

    def chat(self, logprobs: Sequence[TokenLogprob]) -> answers.ChatLogprobs:
        """For `/v1/chat/completions`."""
        return answers.ChatLogprobs(
            [
                answers.TokenLogprob(
                    self._name(entry.token),
                    max(entry.logprob, _LEAST),
                    list(self.tokenizer.token_bytes(entry.token)),
                    [
                        answers.TopLogprob(
                            self._name(token), max(logprob, _LEAST), list(self.tokenizer.token_bytes(token))
                        )
                        for token, logprob in entry.top[: self.top]
                    ],
                )
                for entry in logprobs
            ]
        )

    def completion(
        self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob | None], offset: int
    ) -> answers.CompletionLogprobs:
        """For `/v1/completions`: `tokens` and what is known of each (nothing of a prompt's first), from `offset`.

        The chosen token is among the alternatives, as OpenAI has it.
        """
        names = [self._name(token) for token in tokens]
        offsets = []
        for name in names:
            offsets.append(offset)
            offset += len(name)
        return answers.CompletionLogprobs(
            offsets,
            [None if entry is None else max(entry.logprob, _LEAST) for entry in logprobs],
            names,
            [None if entry is None else self._alternatives(entry) for entry in logprobs],
        )

    def prompt(self, logprobs: Sequence[TokenLogprob]) -> answers.PromptLogprobs:
        """vLLM's `prompt_logprobs`: per token of the prompt, by token id; nothing is known of the first."""
        return [None, *(self._by_id(entry) for entry in logprobs)]

    def _alternatives(self, entry: TokenLogprob) -> dict[str, float]:
        found = {self._name(entry.token): max(entry.logprob, _LEAST)}
        found |= {self._name(token): max(logprob, _LEAST) for token, logprob in entry.top[: self.top]}
        return found

    def _by_id(self, entry: TokenLogprob) -> dict[str, dict[str, object]]:
        ranked = [(entry.token, entry.logprob, entry.rank)]
        ranked += [(token, logprob, rank) for rank, (token, logprob) in enumerate(entry.top, 1)]
        return {
            str(token): {
                "logprob": max(logprob, _LEAST),
                "rank": rank,
                "decoded_token": self.tokenizer.token_text(token),
            }
            for token, logprob, rank in ranked
        }

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.as_ids else self.tokenizer.token_text(token)
