"""BERT's names. A classifier's first layer is the pooler, which embeddings do without."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.encoders import model
from tutti.models.encoders.shape import learned_positions

_LAYER = "encoder.layer.{}"
TABLE: dict[str, str | tuple[str, ...]] = {
    "embed": "embeddings.word_embeddings",
    "types": "embeddings.token_type_embeddings",
    "places": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
    "layers.{}.qkv": tuple(f"{_LAYER}.attention.self.{part}" for part in ("query", "key", "value")),
    "layers.{}.out": f"{_LAYER}.attention.output.dense",
    "layers.{}.attention_norm": f"{_LAYER}.attention.output.LayerNorm",
    "layers.{}.feed_forward.up": f"{_LAYER}.intermediate.dense",
    "layers.{}.feed_forward.down": f"{_LAYER}.output.dense",
    "layers.{}.feed_forward_norm": f"{_LAYER}.output.LayerNorm",
}


def build(checkpoint: Checkpoint, options: BuildOptions) -> model.TextPooler:
    """The encoder with its weights."""
    heads = {"dense": "bert.pooler.dense", "out": "classifier"}
    return model.build(checkpoint, options, learned_positions(checkpoint.config), TABLE, "bert.", heads)
