"""The frozen thinker as the talker hears it: for every token, its last hidden state plus its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

from pico.omni import load_thinker
from pico.tokenizer import render_prompt
from pico.values import Chat

BATCH = 32


@dataclass(frozen=True, slots=True)
class Told:
    """A prompt and its answer to the talker: rows [tokens, width], of which the first `prompt` are the prompt's, and
    for each token of the answer its id and the character with which it begins."""

    rows: Tensor
    prompt: int
    ids: tuple[int, ...]
    begins: tuple[int, ...]


class Thinker:
    """Reads text alone; pictures and sound would only change the rows of prompts."""

    def __init__(self, model: Qwen2_5OmniThinkerTextModel, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @classmethod
    def load(cls, work: Path) -> Thinker:
        """What the earlier stages left, rounded as it will be shipped."""
        tokenizer = Tokenizer.from_file(str(work / "text" / "tokenizer.json"))
        return cls(load_thinker(work, tokenizer).bfloat16().float().model, tokenizer)

    def row(self, token: str) -> Tensor:
        """The embedding of a special token, [width]."""
        return self.model.embed_tokens.weight[self.tokenizer.token_to_id(token)].detach()

    @torch.inference_mode()
    def tell(self, chats: Sequence[Chat]) -> list[Told]:
        """What the talker hears of each chat. The mark that ends an answer is never read, and has no row."""
        read = [self._encode(chat) for chat in chats]
        told: list[Told | None] = [None] * len(chats)
        order = sorted(range(len(chats)), key=lambda index: len(read[index][0]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            ids = pad_sequence([torch.tensor(read[index][0]) for index in chosen], batch_first=True)
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self.model(
                    ids, use_cache=False
                ).last_hidden_state  # padding is behind: it is not seen
            rows = hidden + self.model.embed_tokens(ids)
            for row, index in zip(rows, chosen, strict=True):
                tokens, prompt, begins = read[index]
                told[index] = Told(row[: len(tokens)].bfloat16(), prompt, tuple(tokens[prompt:]), begins)
        return [one for one in told if one is not None]

    def _encode(self, chat: Chat) -> tuple[list[int], int, tuple[int, ...]]:
        prompt = self.tokenizer.encode(render_prompt(chat.prompt)).ids
        answer = self.tokenizer.encode(chat.answer)
        return [*prompt, *answer.ids], len(prompt), tuple(begin for begin, _ in answer.offsets)
