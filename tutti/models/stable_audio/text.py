"""Prompts by Stable Audio's text encoder, T5, brought to the width of its transformer."""

from __future__ import annotations

from typing import Any

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_module, load_tokenizer
from tutti.models.drawing.text import PromptEncoder
from tutti.models.stable_audio.config import TOKENS


class StableAudioText(PromptEncoder):
    """Conditions are ([tokens, width],), as many tokens for every prompt: zeros follow its own."""

    def __init__(self, encoder: Any, projection: Any, tokenizer: Any, device: str) -> None:
        super().__init__(device, min(TOKENS, tokenizer.model_max_length))
        self.encoder = encoder
        self.projection = projection
        self.tokenizer = tokenizer

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        ids = self.rows(self.tokenizer(prompt).input_ids)
        found = self.encoder.shared.weight.new_zeros(self.tokens, self.projection.config.conditioning_dim)
        if ids.shape[1]:
            states = self.encoder(input_ids=ids).last_hidden_state
            found[: ids.shape[1]] = self.projection(text_hidden_states=states).text_hidden_states[0]
        return (found,)


def build(checkpoint: Checkpoint, options: BuildOptions) -> StableAudioText:
    """The stage's model."""
    return StableAudioText(
        load_module(checkpoint, "text_encoder", options),
        load_module(checkpoint, "projection_model", options),
        load_tokenizer(checkpoint, "tokenizer"),
        options.device,
    )
