"""Greedy answers of a transformers model: the examiner's reference, independent of Tutti's engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5OmniForConditionalGeneration, Qwen2ForCausalLM, WhisperFeatureExtractor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from .engine import Prompt
from .speech import HEARD_RATE
from .tokenizer import END, END_OF_TEXT, MEDIA_TOKENS

BATCH = 64


class TransformersEngine:
    """A model of text, or a thinker that hears and sees."""

    def __init__(self, model: Any, tokenizer: Tokenizer, directory: Path | None = None) -> None:
        """`directory` holds the checkpoint that says how media are read; None for a model of text."""
        self.model, self.tokenizer = model, tokenizer
        if directory is not None and (directory / "preprocessor_config.json").exists():
            self.extractor = WhisperFeatureExtractor.from_pretrained(directory)
            self.pictures = Qwen2VLImageProcessorPil.from_pretrained(directory)

    @classmethod
    def load(cls, directory: Path, dtype: torch.dtype = torch.float32) -> TransformersEngine:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        if json.loads((directory / "config.json").read_text())["model_type"] == "qwen2":
            return cls(Qwen2ForCausalLM.from_pretrained(directory, dtype=dtype).eval(), tokenizer)
        whole = Qwen2_5OmniForConditionalGeneration.from_pretrained(directory, dtype=dtype)
        return cls(whole.thinker.eval(), tokenizer, directory)

    def answer(self, prompts: Sequence[Prompt], longest: int) -> list[str]:
        """Greedy continuations of prompts, at most `longest` tokens each, without their end mark."""
        answers = [""] * len(prompts)
        written = [i for i, p in enumerate(prompts) if p.sound is None and p.picture is None]
        order = sorted(written, key=lambda i: len(prompts[i].text))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            given = self._generate(longest, **self.written([prompts[i].text for i in chosen]))
            for index, text in zip(chosen, given, strict=True):
                answers[index] = text
        for index in set(range(len(prompts))) - set(written):
            answers[index] = self._generate(longest, **self.shown(prompts[index]))[0]
        return answers

    def written(self, prompts: list[str]) -> dict[str, Any]:
        """What the model is given of prompts without media."""
        rows = [e.ids for e in self.tokenizer.encode_batch(prompts)]
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def shown(self, prompt: Prompt) -> dict[str, Any]:
        """What the model is given of a prompt with media."""
        inputs: dict[str, Any] = {}
        counts: dict[int, int] = {}
        sound, image = (
            self.tokenizer.token_to_id(MEDIA_TOKENS[f"{kind}_token"]) for kind in ("audio", "image")
        )
        if prompt.sound is not None:
            heard = self.extractor(
                prompt.sound,
                sampling_rate=HEARD_RATE,
                padding="max_length",
                return_attention_mask=True,
                return_tensors="pt",
            )
            inputs |= {
                "input_features": heard["input_features"],
                "feature_attention_mask": heard["attention_mask"],
            }
            counts[sound] = ((int(heard["attention_mask"].sum()) - 1) // 2 + 1 - 2) // 2 + 1
        if prompt.picture is not None:
            seen = self.pictures(prompt.picture, return_tensors="pt")
            inputs |= {"pixel_values": seen["pixel_values"], "image_grid_thw": seen["image_grid_thw"]}
            counts[image] = int(seen["image_grid_thw"].prod()) // self.pictures.merge_size**2
        ids = [i for token in self.tokenizer.encode(prompt.text).ids for i in [token] * counts.get(token, 1)]
        tokens = torch.tensor([ids])
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **inputs}

    @torch.inference_mode()
    def _generate(self, longest: int, **inputs: torch.Tensor) -> list[str]:
        out = self.model.generate(**inputs, **self.greedy(longest))
        given: list[str] = self.tokenizer.decode_batch(
            out[:, inputs["input_ids"].shape[1] :].tolist(), skip_special_tokens=True
        )
        return given

    def greedy(self, longest: int) -> dict[str, Any]:
        """How `generate` is asked for greedy answers of at most `longest` tokens."""
        ends = [self.tokenizer.token_to_id(END), self.tokenizer.token_to_id(END_OF_TEXT)]
        return {"max_new_tokens": longest, "do_sample": False, "eos_token_id": ends, "pad_token_id": ends[1]}
