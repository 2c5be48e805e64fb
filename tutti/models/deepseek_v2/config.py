"""DeepSeek-V2's configuration: latent attention, interleaved rope, shared and routed experts in groups.

Under YaRN the attention's scale grows with `mscale_all_dim`, which cosines and sines leave out in exchange.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.layers.config import (
    FeedForwardConfig,
    LatentAttentionConfig,
    MixtureConfig,
    NormConfig,
    RouterConfig,
)
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, LayerConfig, stage_shape
from tutti.models.reading import Config

NORM_EPS = 1e-6  # of queries and latents, whatever rms_norm_eps says


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes. Raises CheckpointError."""
    attention = attention_config(config)
    dense = replace(standard.feed_forward(config), bias=bool(config.get("mlp_bias", False)))
    mixture, first = mixture_config(config, dense), config.get("first_k_dense_replace", 0)
    layers = tuple(
        LayerConfig(attention, dense if index < first else mixture)
        for index in range(reading.require(config, "num_hidden_layers"))
    )
    rope = replace(reading.rope(config, attention.rope_dim), interleaved=True)
    return replace(standard.decoder(config, layers), ropes=(rope,))


def attention_config(config: Config) -> LatentAttentionConfig:
    """The latent attention of every layer. Raises CheckpointError."""
    bias, query_rank = bool(config.get("attention_bias", False)), config.get("q_lora_rank")
    if bias and query_rank is None:
        raise CheckpointError("config.json: attention_bias without q_lora_rank is not supported")
    plain_dim, rope_dim = (reading.require(config, f"qk_{part}_head_dim") for part in ("nope", "rope"))
    return LatentAttentionConfig(
        heads=reading.require(config, "num_attention_heads"),
        plain_dim=plain_dim,
        rope_dim=rope_dim,
        value_dim=reading.require(config, "v_head_dim"),
        rank=reading.require(config, "kv_lora_rank"),
        scale=(plain_dim + rope_dim) ** -0.5 * yarn_magnitude(config) ** 2,
        norm=NormConfig(NORM_EPS),
        query_rank=query_rank,
        bias=bias,
    )


def yarn_magnitude(config: Config) -> float:
    """What YaRN multiplies queries and keys with, besides what is in the cosines and sines."""
    values = reading.rope_values(config)
    scale, factor = values.get("mscale_all_dim"), values.get("factor", 1.0)
    return 0.1 * scale * math.log(factor) + 1.0 if scale and factor > 1 else 1.0


def mixture_config(config: Config, dense: FeedForwardConfig) -> MixtureConfig:
    """The experts of every layer that has them. Raises CheckpointError for a routing that is not known."""
    method = config.get("topk_method") or "greedy"
    for key, value, known in (
        ("topk_method", method, ("greedy", "group_limited_greedy")),
        ("scoring_func", config.get("scoring_func", "softmax"), ("softmax",)),
        ("norm_topk_prob", config.get("norm_topk_prob") or False, (False,)),
        ("moe_layer_freq", config.get("moe_layer_freq", 1), (1,)),
    ):
        if value not in known:
            raise CheckpointError(
                f"config.json: {key} {value!r} is not supported; known: {', '.join(map(str, known))}"
            )
    grouped = method == "group_limited_greedy"
    router = RouterConfig(
        experts=reading.require(config, "n_routed_experts"),
        active=reading.require(config, "num_experts_per_tok"),
        scale=float(config.get("routed_scaling_factor", 1.0)),
        groups=reading.require(config, "n_group") if grouped else 1,
        active_groups=reading.require(config, "topk_group") if grouped else 1,
    )
    width, shared = reading.require(config, "moe_intermediate_size"), config.get("n_shared_experts")
    expert = replace(dense, intermediate=width, bias=False)
    return MixtureConfig(router, expert, replace(dense, intermediate=width * shared) if shared else None)


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
