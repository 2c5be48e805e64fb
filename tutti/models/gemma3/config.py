"""Gemma 3's configuration: Gemma 2 with queries and keys normed, one rope for windows, another for full attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tutti.graph import StageShape
from tutti.layers.config import RopeConfig
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.gemma2.config import gemma_attention, gemma_decoder
from tutti.models.reading import Config

# What published configurations leave out, because it is the class's default.
DEFAULTS = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}
FULL, LOCAL = 0, 1  # indices of the ropes


def text_config(config: Config) -> dict[str, Any]:
    """The language model's configuration: the whole, or the `text_config` of a model that sees."""
    return DEFAULTS | dict(config.get("text_config") or config)


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    config = text_config(config)
    count = reading.require(config, "num_hidden_layers")
    every = config.get("sliding_window_pattern") or 6
    pattern = ["sliding_attention" if (index + 1) % every else "full_attention" for index in range(count)]
    types = reading.layer_types(config, pattern)
    attention = replace(gemma_attention(config), qk_norm=standard.rms_norm(config, offset=1.0))
    decoder = gemma_decoder(config, attention, types)
    ropes = {"full_attention": FULL, "sliding_attention": LOCAL}
    layers = tuple(
        replace(layer, attention=replace(layer.attention, rope=ropes[kind]))
        for layer, kind in zip(decoder.layers, types, strict=True)
    )
    return replace(decoder, layers=layers, ropes=(_full_rope(config), _local_rope(config)))


def _full_rope(config: Config) -> RopeConfig:
    return reading.rope(config, reading.head_dim(config), layer_type="full_attention", theta=1_000_000.0)


def _local_rope(config: Config) -> RopeConfig:
    """The windows' rope; before transformers 5 it was given by its base alone and never scaled."""
    width = reading.head_dim(config)
    if "sliding_attention" in (config.get("rope_parameters") or {}):
        return reading.rope(config, width, layer_type="sliding_attention")
    return RopeConfig(width, float(config.get("rope_local_base_freq") or 10_000.0))


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
