"""Phi: the decoder with the weights under Phi's names."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.phi.config import decoder_config
from tutti.models.standard import TABLE

WEIGHTS = TABLE | {
    "norm": "model.final_layernorm",
    "layers.{}.attention.out": "model.layers.{}.self_attn.dense",
    "layers.{}.attention.q_norm": "model.layers.{}.self_attn.q_layernorm",
    "layers.{}.attention.k_norm": "model.layers.{}.self_attn.k_layernorm",
    "layers.{}.feed_forward.up": "model.layers.{}.mlp.fc1",
    "layers.{}.feed_forward.down": "model.layers.{}.mlp.fc2",
}


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    return decoder.build(checkpoint, options, decoder_config(checkpoint.config), WEIGHTS)
