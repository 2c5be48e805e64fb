"""Prompts by Stable Diffusion XL's two CLIPs: the states before their last layers, side by side."""

from __future__ import annotations

from typing import Any

import torch

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import Reader, load_reader
from tutti.models.drawing.text import PromptEncoder, check_length
from tutti.models.sdxl.config import TOKENS


class SdxlText(PromptEncoder):
    """Conditions are ([tokens, width], [pooled width]); the second encoder sums the prompt up."""

    def __init__(self, readers: tuple[Reader, Reader], *, blank: bool, device: str) -> None:
        """`blank`: the network was trained to take zeros for a prompt that is empty."""
        super().__init__(device, TOKENS)
        self.readers = readers
        self.blank = blank

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        read = [self._read(reader, prompt) for reader in self.readers]
        states = torch.cat([one.hidden_states[-2][0] for one in read], dim=-1)
        summary = read[1].text_embeds[0]
        if self.blank and not prompt:
            return torch.zeros_like(states), torch.zeros_like(summary)
        return states, summary

    def _read(self, reader: Reader, prompt: str) -> Any:
        encoder, tokenizer = reader
        check_length(len(tokenizer(prompt).input_ids), self.tokens)
        made = tokenizer(prompt, padding="max_length", max_length=self.tokens, return_tensors="pt")
        return encoder(made.input_ids.to(self.device), output_hidden_states=True)


def build(checkpoint: Checkpoint, options: BuildOptions) -> SdxlText:
    """The stage's model."""
    return SdxlText(
        (load_reader(checkpoint, "", options), load_reader(checkpoint, "_2", options)),
        blank=bool(checkpoint.config["settings"].get("force_zeros_for_empty_prompt", True)),
        device=options.device,
    )
