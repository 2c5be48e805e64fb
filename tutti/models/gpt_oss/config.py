"""gpt-oss's configuration: attention with sinks and biases, windows in every other layer, clamped SwiGLU experts."""

from __future__ import annotations

from dataclasses import replace

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.layers.config import FeedForwardConfig, MixtureConfig, RouterConfig
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, LayerConfig, stage_shape
from tutti.models.reading import Config

LIMIT = 7.0  # of "swiglu_clamped"


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes. Raises CheckpointError."""
    count = reading.require(config, "num_hidden_layers")
    alternating = ["full_attention" if index % 2 else "sliding_attention" for index in range(count)]
    bias = bool(config.get("attention_bias", True))
    attention = replace(standard.attention(config), bias=bias, out_bias=bias, sinks=True)
    mixture = mixture_config(config)
    windows = reading.windows(config, reading.layer_types(config, alternating))
    layers = tuple(LayerConfig(replace(attention, window=window), mixture) for window in windows)
    rope = reading.rope(config, reading.head_dim(config), theta=150_000.0)
    return replace(standard.decoder(config, layers), ropes=(rope,))


def mixture_config(config: Config) -> MixtureConfig:
    """The experts of every layer; a router's weights are the softmax over the chosen. Raises CheckpointError."""
    limit = config.get("swiglu_limit") or LIMIT
    if limit != LIMIT:
        raise CheckpointError(f"config.json: swiglu_limit {limit} is not supported; only {LIMIT} is")
    router = RouterConfig(
        experts=config.get("num_local_experts") or reading.require(config, "num_experts"),
        active=reading.require(config, "num_experts_per_tok"),
        normalize=True,
        bias=True,
    )
    width = reading.require(config, "intermediate_size")
    return MixtureConfig(router, FeedForwardConfig(width, "swiglu_clamped", bias=True))


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
