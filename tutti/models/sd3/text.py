"""Prompts by Stable Diffusion 3's text encoders: two CLIPs side by side, and T5 behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import Reader, load_reader, value
from tutti.models.drawing.text import PromptEncoder, check_length
from tutti.models.sd3.config import TOKENS, has_t5


class Sd3Text(PromptEncoder):
    """Conditions are ([tokens, width], [pooled width]); without T5, its tokens are zeros."""

    def __init__(self, clips: tuple[Reader, Reader], t5: Reader | None, *, width: int, device: str) -> None:
        """`width` is that of the network's text, which is T5's."""
        super().__init__(device, TOKENS)
        self.clips = clips
        self.t5 = t5
        self.width = width

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`. Of a prompt that is too long for the CLIPs, they read the beginning."""
        length = self.clips[0][1].model_max_length
        read = [
            encoder(self._ids(tokenizer, prompt, length), output_hidden_states=True)
            for encoder, tokenizer in self.clips
        ]
        beside = torch.cat([one.hidden_states[-2][0] for one in read], dim=-1)
        beside = torch.nn.functional.pad(beside, (0, self.width - beside.shape[-1]))
        summary = torch.cat([one.text_embeds[0] for one in read], dim=-1)
        return torch.cat([beside, self._behind(prompt).to(beside.dtype)]), summary

    def _behind(self, prompt: str) -> Tensor:
        if self.t5 is None:
            return torch.zeros(self.tokens, self.width, device=self.device)
        encoder, tokenizer = self.t5
        check_length(len(tokenizer(prompt).input_ids), self.tokens)
        states: Tensor = encoder(self._ids(tokenizer, prompt, self.tokens)).last_hidden_state
        return states[0]

    def _ids(self, tokenizer: Any, prompt: str, length: int) -> Tensor:
        made = tokenizer(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: Tensor = made.input_ids
        return ids.to(self.device)


def build(checkpoint: Checkpoint, options: BuildOptions) -> Sd3Text:
    """The stage's model."""
    return Sd3Text(
        (load_reader(checkpoint, "", options), load_reader(checkpoint, "_2", options)),
        load_reader(checkpoint, "_3", options) if has_t5(checkpoint.config) else None,
        width=int(value(checkpoint.config, "transformer", "joint_attention_dim")),
        device=options.device,
    )
