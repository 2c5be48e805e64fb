"""The frozen thinker as the talker hears it: for every token, its last hidden state plus its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

from pico.omni import load_thinker

from .batches import Lesson, Marks
from .lessons import Sentence

BATCH = 32


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

    def marks(self) -> Marks:
        """The rows that stand around a reply."""
        return Marks(*(self.row(f"<|tts_{name}|>") for name in ("bos", "eos", "pad")))

    @torch.inference_mode()
    def tell(self, sentences: Sequence[Sentence]) -> list[Lesson]:
        """What the talker hears of each, in bfloat16. The mark that ends an answer is never read, and has no row."""
        told: list[Lesson | None] = [None] * len(sentences)
        order = sorted(range(len(sentences)), key=lambda index: _length(sentences[index]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            both = [torch.cat([sentences[index].prompt, sentences[index].ids]) for index in chosen]
            ids = pad_sequence(both, batch_first=True)
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self.model(
                    ids, use_cache=False
                ).last_hidden_state  # padding is behind: it is not seen
            rows = hidden + self.model.embed_tokens(ids)
            for row, index in zip(rows, chosen, strict=True):
                one = sentences[index]
                prompt, reply, _ = row.to(torch.bfloat16, copy=True).tensor_split(
                    (len(one.prompt), _length(one))
                )
                told[index] = Lesson(prompt, reply, one.ids, one.codes, one.saying)
        return [one for one in told if one is not None]


def _length(sentence: Sentence) -> int:
    return len(sentence.prompt) + len(sentence.ids)
