"""Prompts by FLUX.1's two text encoders: T5 reads them token by token, CLIP sums them up."""

from __future__ import annotations

from typing import Any

import torch

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_module, load_tokenizer
from tutti.models.drawing.text import PromptEncoder, check_length
from tutti.models.flux.config import tokens


class FluxText(PromptEncoder):
    """Conditions are ([tokens, width], [pooled width]); padding is part of what the network was trained with."""

    def __init__(
        self, clip: Any, clip_tokenizer: Any, t5: Any, t5_tokenizer: Any, *, device: str, tokens: int
    ) -> None:
        super().__init__(device, tokens)
        self.clip, self.clip_tokenizer = clip, clip_tokenizer
        self.t5, self.t5_tokenizer = t5, t5_tokenizer

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`. Of a prompt that is too long for CLIP, CLIP sums up the beginning."""
        check_length(len(self.t5_tokenizer(prompt).input_ids), self.tokens)
        states = self.t5(self._ids(self.t5_tokenizer, prompt, self.tokens)).last_hidden_state
        summary = self.clip(self._ids(self.clip_tokenizer, prompt, self.clip_tokenizer.model_max_length))
        return states[0], summary.pooler_output[0]

    def _ids(self, tokenizer: Any, prompt: str, length: int) -> torch.Tensor:
        made = tokenizer(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: torch.Tensor = made.input_ids
        return ids.to(self.device)


def build(checkpoint: Checkpoint, options: BuildOptions) -> FluxText:
    """The stage's model."""
    return FluxText(
        load_module(checkpoint, "text_encoder", options),
        load_tokenizer(checkpoint, "tokenizer"),
        load_module(checkpoint, "text_encoder_2", options),
        load_tokenizer(checkpoint, "tokenizer_2"),
        device=options.device,
        tokens=tokens(checkpoint.config),
    )
