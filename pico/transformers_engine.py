"""Greedy answers of a transformers model, batched: the examiner's reference, independent of Tutti's engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

from .tokenizer import END, END_OF_TEXT

BATCH = 64


class TransformersEngine:
    def __init__(self, model: Qwen2ForCausalLM, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, directory: Path, dtype: torch.dtype = torch.float32) -> TransformersEngine:
        model = Qwen2ForCausalLM.from_pretrained(directory, dtype=dtype).eval()
        return cls(model, Tokenizer.from_file(str(directory / "tokenizer.json")))

    def answer(self, prompts: Sequence[str], longest: int) -> list[str]:
        """Greedy continuations of rendered prompts, at most `longest` tokens each, without their end mark."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            for index, text in zip(chosen, self._batch([prompts[i] for i in chosen], longest), strict=True):
                answers[index] = text
        return answers

    @torch.inference_mode()
    def _batch(self, prompts: list[str], longest: int) -> list[str]:
        rows = [e.ids for e in self.tokenizer.encode_batch(prompts)]
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        ends = [self.tokenizer.token_to_id(END), self.tokenizer.token_to_id(END_OF_TEXT)]
        out = self.model.generate(  # type: ignore[misc]
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=longest,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=ends[1],
        )
        return self.tokenizer.decode_batch(out[:, width:].tolist(), skip_special_tokens=True)
