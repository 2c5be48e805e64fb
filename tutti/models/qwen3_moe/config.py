"""Qwen3-MoE's configuration: Qwen3 with mixtures of experts in most layers; sliding windows in all layers or none."""

from __future__ import annotations

from dataclasses import replace

from tutti.graph import StageShape
from tutti.layers.config import FeedForwardConfig, MixtureConfig, RouterConfig
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, LayerConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    bias = bool(config.get("attention_bias", False))
    window = config.get("sliding_window") if config.get("use_sliding_window", False) else None
    attention = replace(
        standard.attention(config),
        qk_norm=standard.rms_norm(config),
        bias=bias,
        out_bias=bias,
        window=None if window is None or window >= reading.context(config) else window,
    )
    dense, mixture = standard.feed_forward(config), mixture_config(config)
    layers = tuple(
        LayerConfig(attention, mixture if is_mixture(config, index) else dense)
        for index in range(reading.require(config, "num_hidden_layers"))
    )
    return standard.decoder(config, layers)


def is_mixture(config: Config, layer: int) -> bool:
    """Whether a layer has experts: every `decoder_sparse_step`-th has, but for `mlp_only_layers`."""
    step = config.get("decoder_sparse_step", 1)
    return layer not in (config.get("mlp_only_layers") or ()) and (layer + 1) % step == 0


def mixture_config(config: Config) -> MixtureConfig:
    """The experts of every layer that has them."""
    experts = config.get("num_experts") or reading.require(config, "num_local_experts")
    router = RouterConfig(
        experts=experts,
        active=reading.require(config, "num_experts_per_tok"),
        normalize=bool(config.get("norm_topk_prob", False)),
    )
    activation = reading.activation(config, "hidden_act")
    return MixtureConfig(
        router, FeedForwardConfig(reading.require(config, "moe_intermediate_size"), activation)
    )


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
