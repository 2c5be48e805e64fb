"""Prompts by Wan's text encoder, UMT5."""

from __future__ import annotations

import html
from typing import Any

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_module, load_tokenizer
from tutti.models.drawing.text import PromptEncoder
from tutti.models.wan.config import TOKENS


class WanText(PromptEncoder):
    """Conditions are ([tokens, width],)."""

    def __init__(self, encoder: Any, tokenizer: Any, device: str) -> None:
        super().__init__(device, TOKENS)
        self.encoder = encoder
        self.tokenizer = tokenizer

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        words = " ".join(html.unescape(html.unescape(prompt)).split())
        ids = self.rows(self.tokenizer(words).input_ids)
        if not ids.shape[1]:
            return (self.encoder.shared.weight.new_zeros(0, self.encoder.config.d_model),)
        states = self.encoder(input_ids=ids).last_hidden_state
        return (states[0],)


def build(checkpoint: Checkpoint, options: BuildOptions) -> WanText:
    """The stage's model."""
    encoder = load_module(checkpoint, "text_encoder", options)
    return WanText(encoder, load_tokenizer(checkpoint, "tokenizer"), options.device)
