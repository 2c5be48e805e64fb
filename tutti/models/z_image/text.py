"""Prompts by Z-Image's text encoder: the hidden states before the last layer, of the prompt as a user's message."""

from __future__ import annotations

from typing import Any

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_module, load_tokenizer
from tutti.models.drawing.text import PromptEncoder, chat_ids
from tutti.models.z_image.config import TOKENS


class ZImageText(PromptEncoder):
    """Conditions are ([tokens, width],)."""

    def __init__(self, encoder: Any, tokenizer: Any, device: str) -> None:
        super().__init__(device, TOKENS)
        self.encoder = encoder
        self.tokenizer = tokenizer

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        ids = self.rows(chat_ids(self.tokenizer, prompt, enable_thinking=True))
        states = self.encoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        return (states[-2][0],)


def build(checkpoint: Checkpoint, options: BuildOptions) -> ZImageText:
    """The stage's model."""
    encoder = load_module(checkpoint, "text_encoder", options)
    return ZImageText(encoder, load_tokenizer(checkpoint, "tokenizer"), options.device)
