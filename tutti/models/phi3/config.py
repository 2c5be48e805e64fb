"""Phi-3's configuration: the standard arrangement with LongRoPE, partial rope and, where given, a window everywhere."""

from __future__ import annotations

from dataclasses import replace

from tutti.graph import StageShape
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    config = {"original_max_position_embeddings": 4096, **config}
    types = reading.layer_types(config, "sliding_attention")
    layers = standard.layers(config, standard.attention(config), standard.feed_forward(config), types)
    rope = reading.rope(_with_longrope(config), reading.rotary_dim(config))
    return replace(standard.decoder(config, layers), ropes=(rope,))


def _with_longrope(config: Config) -> Config:
    """The configuration with LongRoPE under its present name: the first checkpoints called it "su" or "yarn"."""
    values = dict(reading.rope_values(config))
    if values.get("rope_type", values.get("type")) in ("su", "yarn"):
        values["rope_type"] = "longrope"
    return {**config, "rope_parameters": values}


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
