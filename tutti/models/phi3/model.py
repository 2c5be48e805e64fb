"""Phi-3: the decoder; the checkpoint's projections are merged already, in our order."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.phi3.config import decoder_config
from tutti.models.standard import TABLE

WEIGHTS = TABLE | {
    "layers.{}.attention.qkv": "model.layers.{}.self_attn.qkv_proj",
    "layers.{}.feed_forward.up": "model.layers.{}.mlp.gate_up_proj",
}


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return decoder.build(checkpoint, options, decoder_config(checkpoint.config), WEIGHTS)
