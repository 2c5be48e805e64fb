"""Prompts by Qwen-Image's text encoder: the last hidden states of the prompt within the model's own instruction."""

from __future__ import annotations

from typing import Any

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Condition
from tutti.models.drawing.parts import load_module, load_tokenizer
from tutti.models.drawing.text import PromptEncoder
from tutti.models.qwen_image.config import TOKENS

# The instruction that the network was trained with; the states of its first tokens are dropped.
_BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_DROPPED = 34


class QwenImageText(PromptEncoder):
    """Conditions are ([tokens, width],)."""

    def __init__(self, encoder: Any, tokenizer: Any, device: str) -> None:
        super().__init__(device, TOKENS + _DROPPED)
        self.encoder = encoder
        self.tokenizer = tokenizer

    def encode(self, prompt: str) -> Condition:
        """See `PromptEncoder.encode`."""
        ids = self.rows(self.tokenizer(_BEFORE + prompt + _AFTER).input_ids)
        states = self.encoder.model(input_ids=ids, use_cache=False).last_hidden_state
        return (states[0, _DROPPED:],)


def build(checkpoint: Checkpoint, options: BuildOptions) -> QwenImageText:
    """The stage's model."""
    encoder = load_module(checkpoint, "text_encoder", options)
    return QwenImageText(encoder, load_tokenizer(checkpoint, "tokenizer"), options.device)
