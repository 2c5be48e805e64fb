"""Qwen2's configuration: biases on queries, keys and values; sliding windows in the upper layers when switched on."""

from __future__ import annotations

from dataclasses import replace

from tutti.graph import StageShape
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    attention = replace(standard.attention(config), bias=True)
    layers = standard.layers(config, attention, standard.feed_forward(config), layer_types(config))
    return standard.decoder(config, layers)


def layer_types(config: Config) -> tuple[str, ...]:
    """Sliding windows from layer `max_window_layers` on, if `use_sliding_window`."""
    count = reading.require(config, "num_hidden_layers")
    if not config.get("use_sliding_window", False):
        return ("full_attention",) * count
    first = config.get("max_window_layers", 28)
    types = ["full_attention" if index < first else "sliding_attention" for index in range(count)]
    return reading.layer_types(config, types)


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
