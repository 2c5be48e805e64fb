"""Llama's configuration: the standard arrangement, with biases where the configuration asks for them."""

from __future__ import annotations

from dataclasses import replace

from tutti.graph import StageShape
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    bias = bool(config.get("attention_bias", False))
    attention = replace(standard.attention(config), bias=bias, out_bias=bias)
    feed_forward = replace(standard.feed_forward(config), bias=bool(config.get("mlp_bias", False)))
    types = reading.layer_types(config)
    return standard.decoder(config, standard.layers(config, attention, feed_forward, types))


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
