"""Qwen3-MoE: the decoder with experts under their usual names."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.qwen3_moe.config import decoder_config
from tutti.models.standard import EXPERTS, TABLE


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return decoder.build(checkpoint, options, decoder_config(checkpoint.config), TABLE | EXPERTS)
