"""Prompts by LTX-Video's text encoder, T5."""

from __future__ import annotations

from typing import Any

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_reader
from tutti.models.drawing.text import PromptEncoder
from tutti.models.ltx.config import is_conditional, tokens


class LtxText(PromptEncoder):
    """Conditions are ([tokens, width],)."""

    def __init__(self, encoder: Any, tokenizer: Any, device: str, tokens: int, *, pads: bool) -> None:
        """`pads`: the encoder was trained to read prompts behind which there is padding that it sees."""
        super().__init__(device, tokens)
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.pads = pads

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        ids: list[int] = self.tokenizer(prompt).input_ids or [self.tokenizer.pad_token_id]
        padding = [self.tokenizer.pad_token_id] * (self.tokens - len(ids) if self.pads else 0)
        states = self.encoder(input_ids=self.rows([*ids, *padding])).last_hidden_state
        return (states[0, : len(ids)],)


def build(checkpoint: Checkpoint, options: BuildOptions) -> LtxText:
    """The stage's model."""
    config = checkpoint.config
    reader = load_reader(checkpoint, "", options)
    return LtxText(*reader, options.device, tokens(config), pads=not is_conditional(config))
