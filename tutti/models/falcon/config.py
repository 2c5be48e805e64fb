"""Falcon's configuration: parallel attention and feed-forward with layer norms, few KV heads, in three generations.

The new decoder architecture groups queries around their KV head and norms attention and feed-forward apart; before it,
`multi_query` shares one KV head, and `parallel_attn` False is the sequential arrangement.
"""

from __future__ import annotations

from typing import Any

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.layers.config import AttentionConfig, FeedForwardConfig, NormConfig
from tutti.models import reading
from tutti.models.config import DecoderConfig, LayerConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes. Raises CheckpointError for ALiBi."""
    if config.get("alibi", False):
        raise CheckpointError(
            "config.json: alibi position biases are not supported; only Falcons with rope are"
        )
    hidden, heads = reading.require(config, "hidden_size"), reading.require(config, "num_attention_heads")
    config = {"max_position_embeddings": 2048, **config, "head_dim": hidden // heads}
    grouped = bool(config.get("new_decoder_architecture", False))
    bias = bool(config.get("bias", False))
    attention = AttentionConfig(
        heads=heads,
        kv_heads=kv_heads(config),
        head_dim=hidden // heads,
        scale=(hidden // heads) ** -0.5,
        bias=bias,
        out_bias=bias,
    )
    feed_forward = FeedForwardConfig(
        intermediate=config.get("ffn_hidden_size") or 4 * hidden,
        activation=reading.activation(config, "activation", default="gelu"),
        gated=False,
        bias=bias,
    )
    return DecoderConfig(
        hidden=hidden,
        vocab=reading.require(config, "vocab_size"),
        context=reading.context(config),
        layers=(LayerConfig(attention, feed_forward),) * reading.require(config, "num_hidden_layers"),
        norm=NormConfig(eps=float(config.get("layer_norm_epsilon") or 1e-5), kind="layer", bias=True),
        ropes=(reading.rope(config, hidden // heads),),
        parallel=bool(config.get("parallel_attn", True)),
        parallel_norms=2 if grouped and config.get("num_ln_in_parallel_attn") in (None, 2) else 1,
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def kv_heads(config: Config) -> int:
    """KV heads: as configured in the new architecture, one with `multi_query`, else as many as query heads."""
    heads: Any = config["num_attention_heads"]
    if config.get("new_decoder_architecture", False):
        return int(config.get("num_kv_heads") or heads)
    return 1 if config.get("multi_query", True) else int(heads)


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
