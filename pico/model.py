"""The architecture of pico: a Qwen2 decoder of about two and a half million parameters, in Hugging Face's format.

Widths are multiples of 256, so that every block-wise quantization format applies; a head of 32 leaves 16 rotary pairs,
which the sections of a multi-modal rotary embedding can share (4 + 6 + 6) when the model grows into an omni thinker.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from .tokenizer import END, END_OF_TEXT, VOCABULARY, save_tokenizer

CONTEXT = 2048


def build_model(seed: int) -> Qwen2ForCausalLM:
    """A freshly initialized model in float32."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


def save_model(model: Qwen2ForCausalLM, tokenizer: Tokenizer, directory: Path) -> None:
    """Writes the checkpoint, rounded to bfloat16, with its tokenizer and greedy generation defaults."""
    rounded = Qwen2ForCausalLM(model.config)
    rounded.load_state_dict(model.state_dict())
    rounded.bfloat16()
    rounded.config.dtype = torch.bfloat16
    rounded.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[tokenizer.token_to_id(END), tokenizer.token_to_id(END_OF_TEXT)],
        pad_token_id=tokenizer.token_to_id(END_OF_TEXT),
    )
    rounded.save_pretrained(directory)
    save_tokenizer(tokenizer, directory, CONTEXT)
