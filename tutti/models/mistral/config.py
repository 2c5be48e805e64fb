"""Mistral's configuration: the standard arrangement with a sliding window in every layer, where there is one."""

from __future__ import annotations

from tutti.graph import StageShape
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    types = reading.layer_types(config, "sliding_attention")
    layers = standard.layers(config, standard.attention(config), standard.feed_forward(config), types)
    return standard.decoder(config, layers)


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
