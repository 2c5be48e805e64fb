"""Phi's configuration: attention and feed-forward in parallel after one layer norm, partial rope, biases everywhere."""

from __future__ import annotations

from dataclasses import replace

from tutti.graph import StageShape
from tutti.layers.config import FeedForwardConfig, NormConfig
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    norm = NormConfig(eps=float(config.get("layer_norm_eps") or 1e-5), kind="layer", bias=True)
    attention = replace(
        standard.attention(config),
        bias=True,
        out_bias=True,
        qk_norm=norm if config.get("qk_layernorm") else None,
    )
    feed_forward = FeedForwardConfig(
        intermediate=config.get("intermediate_size") or 4 * reading.require(config, "hidden_size"),
        activation=reading.activation(config, "hidden_act", default="gelu_new"),
        gated=False,
        bias=True,
    )
    layers = standard.layers(config, attention, feed_forward, reading.layer_types(config))
    return replace(
        standard.decoder(config, layers),
        norm=norm,
        ropes=(reading.rope(config, reading.rotary_dim(config, 0.5)),),
        parallel=True,
        head_bias=True,
    )


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
