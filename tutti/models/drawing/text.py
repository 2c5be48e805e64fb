"""Prompts to conditions: what the text stages of families share. A family adds how its encoder reads (`encode`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutti.errors import InvalidRequest
from tutti.models.drawing.denoiser import Condition
from tutti.request import Text


class PromptEncoder(ABC):
    """See `models.protocols.OnceModel`. An item is a prompt's text, its payload a `Condition`."""

    def __init__(self, device: str, tokens: int) -> None:
        """`tokens` are the most that a prompt may have."""
        self.device = torch.device(device)
        self.tokens = tokens

    @abstractmethod
    def encode(self, prompt: str) -> Condition:
        """The condition of one prompt. Raises InvalidRequest on one that is too long."""

    def take(self, part: Text) -> str:
        """See `OnceModel.take`."""
        return part.text

    def cost(self, item: str) -> int:
        """See `OnceModel.cost`: tokens at most."""
        return self.tokens

    def bucket(self, item: str) -> None:
        """See `OnceModel.bucket`."""
        return

    def run(self, items: list[str]) -> list[Condition]:
        """See `OnceModel.run`. Prompts are short, and of different lengths: each by itself, so none is padded."""
        return [self.encode(item) for item in items]

    def rows(self, ids: Sequence[int]) -> Tensor:
        """`ids` as a batch of one, int64 [1, tokens]. Raises InvalidRequest when there are too many."""
        check_length(len(ids), self.tokens)
        return torch.tensor([list(ids)], dtype=torch.int64, device=self.device)


def check_length(count: int, most: int) -> None:
    """Raises InvalidRequest on a prompt of more than `most` tokens: what comes after would not be in the picture."""
    if count > most:
        raise InvalidRequest(
            f"the prompt has {count:,} tokens, and this model's text encoder takes {most:,}: shorten it",
            param="prompt",
        )


def chat_ids(tokenizer: Any, prompt: str, **template: Any) -> list[int]:
    """The ids of `prompt` as a user's message, by the tokenizer's chat template."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, **template
    )
    ids: list[int] = tokenizer(text).input_ids
    return ids
