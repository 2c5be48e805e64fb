"""Gemma 2's configuration: sandwich norms of (1 + weight), windows in every other layer, soft caps, scaled embeddings.

`gemma_decoder` is shared with Gemma 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.layers.config import AttentionConfig
from tutti.models import reading, standard
from tutti.models.config import DecoderConfig, stage_shape
from tutti.models.reading import Config


def decoder_config(config: Config) -> DecoderConfig:
    """The decoder that config.json describes."""
    count = reading.require(config, "num_hidden_layers")
    alternating = ["full_attention" if index % 2 else "sliding_attention" for index in range(count)]
    attention = replace(gemma_attention(config), softcap=config.get("attn_logit_softcapping", 50.0))
    decoder = gemma_decoder(config, attention, reading.layer_types(config, alternating))
    return replace(decoder, logit_softcap=config.get("final_logit_softcapping", 30.0))


def gemma_attention(config: Config) -> AttentionConfig:
    """Attention scaled by `query_pre_attn_scalar` instead of the head's width. Raises CheckpointError."""
    if config.get("use_bidirectional_attention"):
        raise CheckpointError(
            "config.json: use_bidirectional_attention is not supported; only causal attention is"
        )
    bias = bool(config.get("attention_bias", False))
    scale = config.get("query_pre_attn_scalar", 256) ** -0.5
    return replace(standard.attention(config), scale=scale, bias=bias, out_bias=bias)


def gemma_decoder(config: Config, attention: AttentionConfig, types: Sequence[str]) -> DecoderConfig:
    """What the generations share: norms, embedding scale, tied head, tanh-approximated GELU."""
    activation = reading.activation(config, "hidden_activation", default="gelu_pytorch_tanh")
    feed_forward = replace(standard.feed_forward(config), activation=activation)
    return replace(
        standard.decoder(config, standard.layers(config, attention, feed_forward, types), tied=True),
        norm=standard.rms_norm(config, offset=1.0),
        norm_places="both",
        embed_scale=reading.require(config, "hidden_size") ** 0.5,
        logit_softcap=config.get("final_logit_softcapping"),
    )


def describe(config: Config) -> StageShape:
    """The stage's shape, for the memory plan."""
    return stage_shape(decoder_config(config))
