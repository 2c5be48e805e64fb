"""Qwen3's configuration: queries and keys normed per head; sliding windows as in Qwen2."""

from __future__ import annotations

from dataclasses import replace

from tutti.graph import StageShape
from tutti.models import standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.qwen2.config import layer_types
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    bias = bool(config.get("attention_bias", False))
    attention = replace(
        standard.attention(config), qk_norm=standard.rms_norm(config), bias=bias, out_bias=bias
    )
    layers = standard.layers(config, attention, standard.feed_forward(config), layer_types(config))
    return standard.decoder(config, layers)


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
