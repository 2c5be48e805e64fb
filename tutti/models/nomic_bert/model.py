"""Nomic's names: queries, keys and values are one tensor."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.encoders import model
from tutti.models.nomic_bert.config import encoder_config

_LAYER = "encoder.layers.{}"
TABLE: dict[str, str | tuple[str, ...]] = {
    "embed": "embeddings.word_embeddings",
    "types": "embeddings.token_type_embeddings",
    "norm": "emb_ln",
    "layers.{}.qkv": f"{_LAYER}.attn.Wqkv",
    "layers.{}.out": f"{_LAYER}.attn.out_proj",
    "layers.{}.attention_norm": f"{_LAYER}.norm1",
    "layers.{}.feed_forward.up": (f"{_LAYER}.mlp.fc12", f"{_LAYER}.mlp.fc11"),
    "layers.{}.feed_forward.down": f"{_LAYER}.mlp.fc2",
    "layers.{}.feed_forward_norm": f"{_LAYER}.norm2",
}


def build(checkpoint: Checkpoint, options: BuildOptions) -> model.TextPooler:
    """The encoder with its weights."""
    return model.build(checkpoint, options, encoder_config(checkpoint.config), TABLE, "nomic_bert.", {})
